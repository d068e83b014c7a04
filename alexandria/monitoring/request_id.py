"""`X-Request-ID`: the name of a request, in its answer and in every line of the log about it, a task's included."""

import re
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase
from django_structlog.signals import bind_extra_request_finished_metadata

from quota.models import Consumer

HEADER = "X-Request-ID"
_META = "HTTP_X_REQUEST_ID"
_SANE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_ids(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware, before all others: takes the caller's id where it is sane, or makes one, and returns it.

    django-structlog, which reads the header further in, finds the same one there. ISBNdb is not told.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        given = request.META.get(_META, "")
        request_id = given if _SANE.fullmatch(given) else str(uuid.uuid4())
        request.META[_META] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = get_response(request)
        response.headers[HEADER] = request_id
        return response

    return middleware


@receiver(bind_extra_request_finished_metadata)
def name_consumer(request: HttpRequest, log_kwargs: dict[str, Any], **_: Any) -> None:
    """Says in the line "request_finished" whose request it was; of the staff's there is the `user_id`."""
    user = getattr(request, "user", None)
    if isinstance(user, Consumer):
        log_kwargs["consumer"] = user.slug
