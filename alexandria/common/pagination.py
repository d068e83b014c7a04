"""Pagination of the API's lists."""

from typing import Any

from django.core.exceptions import ValidationError as BadValue
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class CursorPages(CursorPagination):
    """Pages that stay correct while rows are added. A cursor that is not valid is a 400, not a 500."""

    def decode_cursor(self, request: Request) -> Cursor | None:
        try:
            cursor: Cursor | None = super().decode_cursor(request)
        except NotFound as error:
            raise _no_cursor() from error
        if cursor and "\0" in str(cursor.position):  # PostgreSQL does not accept it
            raise _no_cursor()
        return cursor

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (BadValue, ValueError) as error:  # its position has another type than the column
            raise _no_cursor() from error


def _no_cursor() -> ValidationError:
    return ValidationError({"cursor": "This cursor is not valid. Use one of `next` or `previous`."})
