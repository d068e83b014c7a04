"""Enriching by month."""

import time

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from enrichment.api import jobs
from enrichment.api.answers import spending_answer
from enrichment.models import Job
from enrichment.serializers.jobs import JobDetailSerializer
from enrichment.serializers.releases import (
    NewReleasesAnswerSerializer,
    NewReleasesRequestSerializer,
    NewReleasesSerializer,
)
from enrichment.services.releases import enrich_new_releases
from quota.authentication import consumer_of

MAX_ANSWER_SECONDS = 50.0  # many proxies wait for 60 seconds


class EnrichNewReleasesView(APIView):
    @extend_schema(
        operation_id="enrich_new_releases",
        summary="Enrich the books of some months, now or as a job",
        parameters=jobs.JOB_PARAMETERS,
        request=NewReleasesRequestSerializer,
        responses={200: NewReleasesAnswerSerializer, 202: JobDetailSerializer},
        extensions={"x-spends-calls": True, "x-may-become-a-job": True},
    )
    def post(self, request: Request) -> Response:
        """Stores the books that were published in the months, with one call per 1,000 books.

        The calls for all months x subjects x pages must be free at the start. Calls that a month does not need are
        released as soon as its total is known. When the quota stops the request on the way, the answer is 200 with
        `quota_exhausted` and with `resume`, which continues exactly there. After 50 seconds the request stops in the
        same way, with the reason `time_limit`. Use a job for longer work.
        """
        started = time.monotonic()
        as_job = jobs.prefers_job(request)
        wanted = NewReleasesRequestSerializer(
            data=request.data, context={"as_job": as_job, "consumer": consumer_of(request).slug}
        )
        wanted.is_valid(raise_exception=True)
        if as_job:
            return jobs.accept_job(request, kind=Job.Kind.NEW_RELEASES, wanted=wanted.validated_data)
        result = enrich_new_releases(
            wanted.validated_data["wanted"],
            consumer=consumer_of(request).slug,
            place=wanted.validated_data["place"],
            source=wanted.validated_data["source"],
            seconds=MAX_ANSWER_SECONDS,
        )
        return spending_answer(NewReleasesSerializer(result).data, started=started)
