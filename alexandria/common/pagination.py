"""Pages of the API's lists."""

from typing import Any

from django.core.exceptions import ValidationError as BadValue
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class CursorPages(CursorPagination):
    """Pages that stay right while rows come in; a cursor that somebody made up is a 400 and no failure of ours."""

    def decode_cursor(self, request: Request) -> Cursor | None:
        try:
            cursor: Cursor | None = super().decode_cursor(request)
        except NotFound as error:
            raise _no_cursor() from error
        if cursor and "\0" in str(cursor.position):  # which PostgreSQL does not take
            raise _no_cursor()
        return cursor

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (BadValue, ValueError) as error:  # its position is of another type than the column
            raise _no_cursor() from error


def _no_cursor() -> ValidationError:
    return ValidationError({"cursor": "This is no cursor of this service."})
