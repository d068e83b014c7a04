"""An id in an address of the admin that cannot be an id is not found, on every page, also on those of libraries."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from django.apps import apps
from django.contrib.admin.utils import unquote as id_in_address
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from alexandria.api.bodies import NO_NUL
from alexandria.api.problems import refusal


class OnlyIds:
    """Middleware. Without it, pages that look for the row on their own fail when PostgreSQL or Django refuse the id."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], arguments: Any, named: dict[str, Any]
    ) -> HttpResponse | None:
        """Raises Http404."""
        match = request.resolver_match
        if match is None or match.app_name != "admin" or not request.user.is_authenticated:
            return None
        if "\0" in unquote(request.META["QUERY_STRING"]):
            return refusal(request, 400, "parse_error", NO_NUL)
        if "\0" in request.path or not _can_be_id(match.route, named.get("object_id")):
            raise Http404("There is no such id.")
        return None


def _can_be_id(route: str, object_id: str | None) -> bool:
    """Whether it can be an id of the table of the route: admin/<app>/<table>/…"""
    if object_id is None:
        return True
    _, app, table, *_ = [*route.split("/"), "", ""]
    try:
        apps.get_model(app, table)._meta.pk.to_python(id_in_address(str(object_id)))  # noqa: SLF001
    except LookupError:
        return True
    except ValidationError:
        return False
    return True
