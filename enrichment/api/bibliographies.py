"""Enriching by author: parse, call one service, render."""

import time

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from enrichment.api.answers import spending_answer
from enrichment.serializers.bibliographies import (
    BibliographyAnswerSerializer,
    BibliographyRequestSerializer,
    BibliographySerializer,
)
from enrichment.services.bibliographies import enrich_bibliography
from quota.authentication import consumer_of


class EnrichBibliographyView(APIView):
    @extend_schema(
        operation_id="enrich_bibliography",
        summary="Enrich an author's books now",
        request=BibliographyRequestSerializer,
        responses={200: BibliographyAnswerSerializer},
        extensions={"x-spends-calls": True},
    )
    def post(self, request: Request) -> Response:
        """Stores the books that ISBNdb has by an author, at one call per 1,000.

        All `max_pages` calls must be free at the start; those that turn out not to be needed go back with the first
        page. When the quota ends it on the way, the answer is 200 with `stopped_reason` and `next_page`.
        """
        started = time.monotonic()
        wanted = BibliographyRequestSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        result = enrich_bibliography(
            wanted.validated_data["author_name"],
            consumer=consumer_of(request).slug,
            max_pages=wanted.validated_data["max_pages"],
            start_page=wanted.validated_data["start_page"],
            skip_existing=wanted.validated_data["skip_existing"],
            source=wanted.validated_data["source"],
        )
        return spending_answer(BibliographySerializer(result).data, started=started)
