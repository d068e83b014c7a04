"""How people log in: with a password, on record, and with a pause after too many failures."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest

from alexandria.common.proxies import client_address
from alexandria.common.turns import name_sender, take_turn
from alexandria.logins import throttling


class ThrottledBackend(ModelBackend):
    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **credentials: Any
    ) -> User | None:
        """Raises LogInPaused, and TooManyAtOnce: to check a password takes long."""
        if request is None or username is None or password is None:
            return super().authenticate(request, username, password, **credentials)
        address = str(client_address(request) or "")
        name_sender(f"address {address}")
        take_turn()
        attempt = throttling.begin(username=username[:150], address=address)
        user = super().authenticate(request, username, password, **credentials)
        if user is not None:
            throttling.succeed(attempt)
        return user
