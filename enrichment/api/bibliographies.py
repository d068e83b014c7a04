"""The endpoint that enriches by author: parse, call one service, render."""

import time

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from enrichment.api import jobs
from enrichment.api.answers import spending_answer
from enrichment.models import Job
from enrichment.serializers.bibliographies import (
    BibliographyAnswerSerializer,
    BibliographyRequestSerializer,
    BibliographySerializer,
)
from enrichment.serializers.jobs import JobDetailSerializer
from enrichment.services.bibliographies import enrich_bibliography
from quota.authentication import consumer_of


class EnrichBibliographyView(APIView):
    @extend_schema(
        operation_id="enrich_bibliography",
        summary="Enrich an author's books now, or as a job",
        parameters=jobs.JOB_PARAMETERS,
        request=BibliographyRequestSerializer,
        responses={200: BibliographyAnswerSerializer, 202: JobDetailSerializer},
        extensions={"x-spends-calls": True, "x-may-become-a-job": True},
    )
    def post(self, request: Request) -> Response:
        """Stores ISBNdb's books by an author. A page of 1,000 books costs one call.

        All `max_pages` calls must be free at the start. Calls that are not needed are released after the first page.
        When the quota stops the request later, the answer is 200 with `stopped_reason` and `next_page`.
        """
        started = time.monotonic()
        as_job = jobs.prefers_job(request)
        wanted = BibliographyRequestSerializer(data=request.data, context={"as_job": as_job})
        wanted.is_valid(raise_exception=True)
        if as_job:
            return jobs.accept_job(request, kind=Job.Kind.BIBLIOGRAPHY, wanted=wanted.validated_data)
        result = enrich_bibliography(
            wanted.validated_data["author_name"],
            consumer=consumer_of(request).slug,
            max_pages=wanted.validated_data["max_pages"],
            start_page=wanted.validated_data["start_page"],
            skip_existing=wanted.validated_data["skip_existing"],
            refresh=wanted.validated_data["refresh"],
            source=wanted.validated_data["source"],
        )
        return spending_answer(BibliographySerializer(result).data, started=started)
