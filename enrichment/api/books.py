"""Endpoints that enrich ISBNs and show stored books: parse, call one service, render."""

import time
from datetime import datetime
from typing import Any

import structlog
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alexandria.common.database import OUT_OF_REACH
from alexandria.common.text import as_people_read
from enrichment.api import jobs
from enrichment.api.answers import spending_answer
from enrichment.api.lists import LIST_PARSERS, list_bodies, read_list
from enrichment.isbn.parsing import InvalidIsbn, parse
from enrichment.isbn.reading import GivenIsbns
from enrichment.models import Edition, Job
from enrichment.selectors.books import ask_isbns_again_at, get_edition
from enrichment.selectors.lookup import look_up
from enrichment.serializers.books import (
    BatchAnswerSerializer,
    BatchRequestSerializer,
    EditionSerializer,
    EnrichmentSerializer,
    IsbnItemSerializer,
)
from enrichment.serializers.jobs import JobDetailSerializer
from enrichment.serializers.lookup import book_items
from enrichment.services.enrich import enrich_isbns
from enrichment.services.refreshes import refresh_isbns
from quota.authentication import consumer_of

log = structlog.get_logger(__name__)


class EnrichBatchView(APIView):
    parser_classes = LIST_PARSERS

    @extend_schema(
        operation_id="enrich_batch_direct",
        summary="Enrich up to 1,000 ISBNs now, or 100,000 as a job",
        parameters=jobs.JOB_PARAMETERS,
        request=list_bodies(BatchRequestSerializer),
        responses={200: BatchAnswerSerializer, 202: JobDetailSerializer},
        extensions=jobs.SPENDS_OR_JOB,
    )
    def post(self, request: Request) -> Response:
        """Stores what ISBNdb knows about the ISBNs. Fresh ISBNs cost nothing.

        Up to 1,000 others are a batch. It costs one call, or one for each ISBN, as ISBNdb's plan says (`batch_price`).

        The body can also be a bare list of ISBNs, or a file; the other fields are then parameters of the address. With
        `Prefer: respond-async`, the answer is 202 at once, and the work continues as a job.
        """
        started = time.monotonic()
        as_job = jobs.prefers_job(request)
        wanted = read_list(request, BatchRequestSerializer, as_job=as_job)
        given = wanted.pop("given")
        if as_job:
            return jobs.accept_job(request, kind=Job.Kind.BATCH_DIRECT, wanted=wanted)
        enrich = refresh_isbns if wanted["refresh"] else enrich_isbns
        result = enrich(given, consumer=consumer_of(request).slug, source=wanted["source"])
        answer = EnrichmentSerializer(result).data | {
            "ask_again_at": _ask_again_at(result.not_found_isbns),
            "notes": wanted["notes"],
        }
        if wanted["return"] == "items":
            answer["items"] = IsbnItemSerializer(result.items, many=True).data
        elif wanted["return"] == "books":
            answer["books"] = _books(given)
        return spending_answer(answer, started=started)


class BookView(APIView):
    @extend_schema(
        operation_id="book",
        summary="A stored book",
        parameters=[
            OpenApiParameter("isbn", str, OpenApiParameter.PATH, description="An ISBN in any form."),
            OpenApiParameter(
                "If-None-Match", str, OpenApiParameter.HEADER, description="The ETag of an earlier answer."
            ),
            OpenApiParameter(
                "ETag", str, OpenApiParameter.HEADER, response=[200, 304], description="The ETag of this answer."
            ),
        ],
        responses={200: EditionSerializer, 304: OpenApiResponse(description="The book has not changed.")},
    )
    def get(self, request: Request, isbn: str) -> HttpResponseBase:
        """Shows the stored book. Never spends a call."""
        try:
            isbn13 = parse(isbn)
        except InvalidIsbn as error:
            raise NotFound(f"{isbn!r} is not a valid ISBN: {error.reason}.") from error
        edition = get_edition(isbn13)
        if edition is None:
            raise NotFound(_why_not_stored(isbn13))
        etag = _etag(edition)
        answer = get_conditional_response(request, etag=etag) or Response(EditionSerializer(edition).data)
        for name, value in {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}.items():
            answer[name] = value
        return answer


def _ask_again_at(isbns: list[str]) -> dict[str, datetime] | None:
    """None when the database does not answer: the work is done, and its calls are spent."""
    try:
        return ask_isbns_again_at(isbns) if isbns else {}
    except OUT_OF_REACH:
        log.exception("answer.without_misses")
        return None


def _books(given: GivenIsbns) -> list[dict[str, Any]] | None:
    """None like `_ask_again_at`."""
    try:
        return book_items(given, look_up(given.valid))
    except OUT_OF_REACH:
        log.exception("answer.without_books")
        return None


def _why_not_stored(isbn13: str) -> str:
    ask = "POST it to /api/enrich/batch-direct to ask ISBNdb for it."
    asked_again = ask_isbns_again_at([isbn13])
    if not asked_again:
        return f"{isbn13} is not stored. {ask}"
    until = as_people_read(asked_again[isbn13])
    return f"{isbn13} is not stored, because ISBNdb did not know it. {ask} Until {until}, that needs `refresh`."


def _etag(edition: Edition) -> str:
    return f'"{edition.content_hash.hex}-{edition.synced_at.timestamp():.6f}"'
