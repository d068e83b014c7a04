"""API keys: `Authorization: Api-Key …` identifies a consumer."""

from typing import Any, cast

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework_api_key.permissions import KeyParser

from alexandria.common.proxies import client_address
from quota.models import Consumer, ConsumerKey
from quota.wrong_keys import WrongKeys

WRONG_KEYS = WrongKeys()


class ConsumerKeyAuthentication(BaseAuthentication):
    """Makes the key's Consumer `request.user` and the ConsumerKey `request.auth`."""

    def authenticate(self, request: Request) -> tuple[Consumer, ConsumerKey] | None:
        key = self.key_of(request)
        if key is None:
            return None
        address = str(client_address(request))
        if wait := WRONG_KEYS.seconds_to_wait(address, key):
            raise Throttled(wait)
        try:
            found = cast("ConsumerKey | None", ConsumerKey.objects.get_from_key(key))
        except ConsumerKey.DoesNotExist:
            found = None
        if found is None or found.has_expired:
            WRONG_KEYS.add_wrong(address)
            raise AuthenticationFailed("The API key is unknown, revoked or expired.")
        WRONG_KEYS.add_right(key)
        return found.consumer, found

    def authenticate_header(self, request: Request) -> str:
        return "Api-Key"

    def key_of(self, request: Request) -> str | None:
        """The key that the request comes with; None if it has none. Raises AuthenticationFailed."""
        if not request.headers.get("Authorization"):
            return None
        key = KeyParser().get(request)
        if not key:
            raise AuthenticationFailed("The Authorization header must be: Api-Key <key>.")
        return key


def consumer_of(request: Request) -> Consumer:
    """The consumer that makes the request, for views with the permission IsActiveConsumer."""
    return cast("Consumer", request.user)


def sees_all(request: Request) -> bool:
    """Whether the request comes with a manager's key."""
    return isinstance(request.auth, ConsumerKey) and request.auth.sees_all


class IsActiveConsumer(BasePermission):
    """Allows requests with a key of an active consumer. The message says when the consumer is switched off."""

    message = "This API key's consumer is switched off."

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.user, Consumer) and request.user.active
