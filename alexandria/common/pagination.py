"""Pagination of the API's lists."""

import json
from typing import Any

from django.core.exceptions import ValidationError as BadValue
from django.db.models import F, Field, Func, QuerySet, TextField, Value
from django.db.models.lookups import GreaterThan, LessThan
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


class KeysetPages(CursorPages):
    """Pages in the order of several columns; the last one is unique. All ascend, or all descend.

    CursorPagination compares with the first column only and steps over equal values, at most 1,000. Here any number of
    rows may have one value, and the index of all columns finds the page.
    """

    def __init__(self, *ordering: str) -> None:
        """`ordering`: names of columns or annotations that are never null; each begins with "-" to descend."""
        self.ordering = ordering
        self.names = [name.removeprefix("-") for name in ordering]

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        self.request, self.base_url = request, request.build_absolute_uri()
        size = self.get_page_size(request) or 0
        cursor = self.decode_cursor(request)
        backwards = cursor is not None and cursor.reverse
        descends = self.ordering[0].startswith("-") != backwards
        rows = queryset.order_by(*(f"-{name}" if descends else name for name in self.names))
        if cursor is not None:
            compare = LessThan if descends else GreaterThan
            rows = rows.filter(compare(_Row(*map(F, self.names)), _Row(*self._values(queryset, str(cursor.position)))))
        found = list(rows[: size + 1])
        self.page: list[Any] = found[:size][:: -1 if backwards else 1]
        is_there_more = len(found) > size
        self.has_next = bool(self.page) and (backwards or is_there_more)
        self.has_previous = bool(self.page) and (is_there_more if backwards else cursor is not None)
        return self.page

    def get_next_link(self) -> str | None:
        return self._link(self.page[-1], reverse=False) if self.has_next else None

    def get_previous_link(self) -> str | None:
        return self._link(self.page[0], reverse=True) if self.has_previous else None

    def _link(self, row: Any, *, reverse: bool) -> str:
        position = json.dumps([str(getattr(row, name)) for name in self.names])
        cursor = Cursor(offset=0, reverse=reverse, position=position)  # type: ignore[arg-type]  # it is a text
        return str(self.encode_cursor(cursor))

    def _values(self, rows: "QuerySet[Any]", position: str) -> list[Value]:
        """The values of a position, each with the type of its column. Raises ValidationError."""
        try:
            texts = json.loads(position)
        except (ValueError, RecursionError) as error:
            raise _no_cursor() from error
        is_position = isinstance(texts, list) and len(texts) == len(self.names)
        if not is_position or not all(isinstance(text, str) and "\0" not in text for text in texts):
            raise _no_cursor()
        fields = [_field_of(rows, name) for name in self.names]
        try:
            values = [field.to_python(text) for field, text in zip(fields, texts, strict=True)]
        except (BadValue, TypeError, ValueError, OverflowError) as error:
            raise _no_cursor() from error
        return [Value(value, output_field=field) for field, value in zip(fields, values, strict=True)]


class _Row(Func):
    """Several columns or values as one. PostgreSQL compares such rows by an index of the columns."""

    function = "ROW"
    output_field = TextField()  # no query returns it


def _field_of(rows: "QuerySet[Any]", name: str) -> "Field[Any, Any]":
    """The type of a column or an annotation."""
    annotation = rows.query.annotations.get(name)
    field: Field[Any, Any] = annotation.output_field if annotation else rows.model._meta.get_field(name)  # noqa: SLF001
    return field


def _no_cursor() -> ValidationError:
    return ValidationError({"cursor": "This cursor is not valid. Use one of `next` or `previous`."})
