"""The endpoint that enriches a list of authors as a job."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from enrichment.api import jobs
from enrichment.models import Job
from enrichment.serializers.bulk_harvests import BulkHarvestRequestSerializer
from enrichment.serializers.jobs import JobDetailSerializer


class BulkHarvestView(APIView):
    @extend_schema(
        operation_id="bulk_harvest",
        summary="Enrich the books of many authors, as a job",
        parameters=jobs.JOB_PARAMETERS,
        request=BulkHarvestRequestSerializer,
        responses={202: JobDetailSerializer},
        extensions={"x-spends-calls": True, "x-may-become-a-job": True},
    )
    def post(self, request: Request) -> Response:
        """Stores ISBNdb's books by each of the authors. A page of 1,000 books costs one call.

        This is always a job, so the header `Prefer: respond-async` is required. A list that a job of the consumer has
        finished is refused with 409, and so is one whose job has stopped: resume or retry that job, or send `again`.
        """
        wanted = BulkHarvestRequestSerializer(data=request.data, context={"as_job": jobs.prefers_job(request)})
        wanted.is_valid(raise_exception=True)
        return jobs.accept_job(request, kind=Job.Kind.AUTHORS, wanted=wanted.validated_data)
