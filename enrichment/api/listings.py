"""Enriching by listings: of an author, of many authors, of some months. Parse, call one service, render."""

import time

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from enrichment.api import jobs
from enrichment.api.answers import spending_answer
from enrichment.models import Job
from enrichment.serializers.authors import (
    BibliographyAnswerSerializer,
    BibliographyRequestSerializer,
    BibliographySerializer,
    BulkHarvestRequestSerializer,
)
from enrichment.serializers.jobs import JobDetailSerializer
from enrichment.serializers.releases import (
    NewReleasesAnswerSerializer,
    NewReleasesRequestSerializer,
    NewReleasesSerializer,
)
from enrichment.services.bibliographies import enrich_bibliography
from enrichment.services.releases import enrich_new_releases
from quota.authentication import consumer_of

MAX_ANSWER_SECONDS = 50.0  # many proxies wait for 60 seconds


class EnrichBibliographyView(APIView):
    @extend_schema(
        operation_id="enrich_bibliography",
        summary="Enrich an author's books now, or as a job",
        parameters=jobs.JOB_PARAMETERS,
        request=BibliographyRequestSerializer,
        responses={200: BibliographyAnswerSerializer, 202: JobDetailSerializer},
        extensions=jobs.SPENDS_OR_JOB,
    )
    def post(self, request: Request) -> Response:
        """Stores ISBNdb's books by an author. A page of 1,000 books costs one call.

        All `max_pages` calls must be free at the start. Calls that are not needed are released after the first page.
        When the quota stops the request later, the answer is 200 with `stopped_reason` and `next_page`.
        """
        started = time.monotonic()
        as_job, wanted = jobs.asked_for_work(request, BibliographyRequestSerializer)
        if as_job:
            return jobs.accept_job(request, kind=Job.Kind.BIBLIOGRAPHY, wanted=wanted)
        result = enrich_bibliography(wanted.pop("author_name"), consumer=consumer_of(request).slug, **wanted)
        return spending_answer(BibliographySerializer(result).data, started=started)


class BulkHarvestView(APIView):
    @extend_schema(
        operation_id="bulk_harvest",
        summary="Enrich the books of many authors, as a job",
        parameters=jobs.JOB_PARAMETERS,
        request=BulkHarvestRequestSerializer,
        responses={202: JobDetailSerializer},
        extensions=jobs.SPENDS_OR_JOB,
    )
    def post(self, request: Request) -> Response:
        """Stores ISBNdb's books by each of the authors. A page of 1,000 books costs one call.

        This is always a job, so the header `Prefer: respond-async` is required. A list that a job of the consumer has
        finished is refused with 409, and so is one whose job has stopped: resume or retry that job, or send `again`.
        """
        _, wanted = jobs.asked_for_work(request, BulkHarvestRequestSerializer)
        return jobs.accept_job(request, kind=Job.Kind.AUTHORS, wanted=wanted)


class EnrichNewReleasesView(APIView):
    @extend_schema(
        operation_id="enrich_new_releases",
        summary="Enrich the books of some months, now or as a job",
        parameters=jobs.JOB_PARAMETERS,
        request=NewReleasesRequestSerializer,
        responses={200: NewReleasesAnswerSerializer, 202: JobDetailSerializer},
        extensions=jobs.SPENDS_OR_JOB,
    )
    def post(self, request: Request) -> Response:
        """Stores the books that were published in the months, with one call per 1,000 books.

        The calls for all months x subjects x pages must be free at the start. Calls that a month does not need are
        released as soon as its total is known. When the quota stops the request on the way, the answer is 200 with
        `quota_exhausted` and with `resume`, which continues exactly there. After 50 seconds the request stops in the
        same way, with the reason `time_limit`. Use a job for longer work.
        """
        started = time.monotonic()
        as_job, wanted = jobs.asked_for_work(request, NewReleasesRequestSerializer)
        if as_job:
            return jobs.accept_job(request, kind=Job.Kind.NEW_RELEASES, wanted=wanted)
        result = enrich_new_releases(consumer=consumer_of(request).slug, seconds=MAX_ANSWER_SECONDS, **wanted)
        return spending_answer(NewReleasesSerializer(result).data, started=started)
