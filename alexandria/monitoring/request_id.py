"""`X-Request-ID` identifies a request in its answer and in all its log lines, including those of its tasks.

The lines of the request itself also have the address of the client, `ip`.
"""

import re
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase
from django_structlog.signals import bind_extra_request_finished_metadata

from alexandria.common.proxies import client_address
from quota.models import Consumer

HEADER = "X-Request-ID"
_META = "HTTP_X_REQUEST_ID"
_VALID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_ids(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """The first middleware. It uses the client's id if it is valid, creates one otherwise, and returns it.

    django-structlog reads the header later and finds the same id. The id is not sent to ISBNdb.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        given = request.META.get(_META, "")
        request_id = given if _VALID.fullmatch(given) else str(uuid.uuid4())
        request.META[_META] = request_id
        address = client_address(request)
        with structlog.contextvars.bound_contextvars(request_id=request_id, ip=address and str(address)):
            response = get_response(request)
        response.headers[HEADER] = request_id
        return response

    return middleware


@receiver(bind_extra_request_finished_metadata)
def name_consumer(request: HttpRequest, log_kwargs: dict[str, Any], **_: Any) -> None:
    """Adds the consumer to the line "request_finished". Requests of staff have a `user_id`."""
    user = getattr(request, "user", None)
    if isinstance(user, Consumer):
        log_kwargs["consumer"] = user.slug
