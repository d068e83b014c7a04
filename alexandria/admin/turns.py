"""Shares of the threads for the people in the admin, as for API keys: alexandria/common/turns.py."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse

from alexandria.common.searching import SearchTooSlow
from alexandria.common.turns import RETRY_AFTER, TooManyAtOnce, name_sender, take_turn_for_body
from alexandria.logins.throttling import LogInPaused


class Turns:
    """Middleware that names the user of a page, and shows why a page was refused.

    A form with a long body takes a turn. `spending`, `searching` and exports take one on their own.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Before `bodies`, which reads forms."""
        if request.path.startswith(reverse("admin:index")) and request.user.is_authenticated:
            name_sender(f"user {request.user.pk}")
            try:
                take_turn_for_body(request.META)
            except TooManyAtOnce as refused:
                return _too_many(request, refused)
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        match error:
            case TooManyAtOnce():
                return _too_many(request, error)
            case LogInPaused():
                return _notice(request, 429, "Too many log-ins have failed", error, retry_after=error.seconds)
            case SearchTooSlow():
                return _notice(request, 503, "This search took too long", error)
        return None


def _too_many(request: HttpRequest, error: TooManyAtOnce) -> HttpResponse:
    return _notice(request, 429, "Too many pages at once", error, retry_after=RETRY_AFTER)


def _notice(
    request: HttpRequest, status: int, title: str, text: object, *, retry_after: int | None = None
) -> HttpResponse:
    page = render(request, "try_again.html", {"title": title, "text": text}, status=status)
    if retry_after:
        page["Retry-After"] = str(retry_after)
    return page
