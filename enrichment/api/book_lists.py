"""Answers with a list of books: JSON, or line by line NDJSON or CSV, as the request's `Accept` says."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from rest_framework.pagination import CursorPagination
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from alexandria.common.exports import csv_line
from enrichment.exports.formats import COLUMNS, values_of

Item = dict[str, Any]
"""As `BookItemSerializer` shows it."""

_BEFORE_THE_BOOK = ("input", "state", "reason", "suggestion", "asked_at")


class NdjsonRenderer(JSONRenderer):
    media_type = "application/x-ndjson"
    format = "ndjson"


class CsvRenderer(JSONRenderer):
    media_type = "text/csv"
    format = "csv"


BOOK_RENDERERS: Sequence[type[BaseRenderer]] = [*APIView.renderer_classes, NdjsonRenderer, CsvRenderer]
"""For views that end with `books_answer` or `books_page`. These do not use DRF's renderer, which is much slower."""


def books_answer(request: Request, answer: Mapping[str, Any], items: Iterable[Item]) -> HttpResponseBase:
    """JSON has the items as `books` beside the rest of `answer`, NDJSON and CSV have the items alone."""
    return _lines(request, items) or _json({**answer, "books": list(items)})


def books_page(request: Request, pages: CursorPagination, items: Sequence[Item]) -> HttpResponseBase:
    """The same for a page of `pages`: JSON has `next`, `previous` and `results`, the others have the header `Link`."""
    links = {"next": pages.get_next_link(), "previous": pages.get_previous_link()}
    response = _lines(request, items)
    if response is None:
        return _json({**links, "results": items})
    if any(links.values()):
        response["Link"] = ", ".join(f'<{link}>; rel="{name}"' for name, link in links.items() if link)
    return response


def _json(answer: Mapping[str, Any]) -> HttpResponseBase:
    return HttpResponse(msgspec.json.encode(answer), content_type=JSONRenderer.media_type)


def _lines(request: Request, items: Iterable[Item]) -> HttpResponseBase | None:
    """None: the request accepts JSON."""
    match request.accepted_renderer:
        case NdjsonRenderer():
            return StreamingHttpResponse(_ndjson(items), content_type=NdjsonRenderer.media_type)
        case CsvRenderer():
            return StreamingHttpResponse(_csv(items), content_type=f"{CsvRenderer.media_type}; charset=utf-8")
    return None


def book_list_answers(serializer: type[Serializer[Any]], item: type[Serializer[Any]]) -> dict[Any, Any]:
    """The 200 of such a view, for the schema."""
    return {
        (200, JSONRenderer.media_type): serializer,
        (200, NdjsonRenderer.media_type): item,
        (200, CsvRenderer.media_type): OpenApiTypes.STR,
    }


def _ndjson(items: Iterable[Item]) -> Iterator[bytes]:
    for item in items:
        yield msgspec.json.encode(item) + b"\n"


def _csv(items: Iterable[Item]) -> Iterator[str]:
    yield csv_line([*_BEFORE_THE_BOOK, *COLUMNS])
    for item in items:
        yield csv_line([*(item[name] for name in _BEFORE_THE_BOOK), *_values(item)])


def _values(item: Item) -> list[Any]:
    if item["book"] is not None:
        return values_of(item["book"])
    return [item["isbn13"] if column == "isbn13" else None for column in COLUMNS]
