"""Jobs: creating one for a view of long work; showing, pausing, resuming, cancelling and retrying it."""

import re
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import QuerySet
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alexandria.common.pagination import CursorPages
from enrichment.api.answers import VARY
from enrichment.exceptions import IdempotencyKeyMalformed
from enrichment.jobs import lifecycle
from enrichment.models import Job, JobAuthor, JobItem
from enrichment.models.jobs import MAX_KEY_LENGTH
from enrichment.selectors.jobs import check_items, get_job, jobs_of
from enrichment.serializers.jobs import (
    JobAuthorSerializer,
    JobAuthorsQuerySerializer,
    JobDetailSerializer,
    JobItemSerializer,
    JobItemsQuerySerializer,
    JobOptionsSerializer,
    JobSerializer,
    JobsQuerySerializer,
    job_detail,
)
from quota.api import asked_for, ratelimit_headers
from quota.authentication import consumer_of
from quota.selectors.status import get_status

JOB_PARAMETERS = [
    OpenApiParameter(
        "Prefer", str, OpenApiParameter.HEADER, description="`respond-async`: answer with 202 and a job (RFC 7240)."
    ),
    OpenApiParameter(
        "Idempotency-Key",
        str,
        OpenApiParameter.HEADER,
        description=f"Only for a job: the same key (1 to {MAX_KEY_LENGTH} printable ASCII characters) with the same "
        "body returns the same job.",
    ),
]
OF_THE_JOB = {"on_exhausted", "notify_url", "label", "list_key", "again"}
"""The fields of a body that say how the job is carried out. All others say what the work is."""

SPENDS_OR_JOB = {"x-spends-calls": True, "x-may-become-a-job": True}
"""What the schema says about such an endpoint."""

Post = TypeVar("Post", bound=Callable[..., Response])

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?')  # also one that does not end: a search from each of its quotes takes long


def prefers_job(request: Request) -> bool:
    """Whether the header `Prefer` contains `respond-async`, with or without other preferences and parameters.

    Raises ValidationError for an idempotency key without it: a client must not believe that repeating is free.
    """
    preferences = _QUOTED.sub('""', request.headers.get("Prefer", "")).split(",")
    names = {re.sub(r"\s", "", preference.partition(";")[0]).lower() for preference in preferences}
    as_job = not names.isdisjoint({"respond-async", 'respond-async=""', "respond-async="})
    if not as_job and "Idempotency-Key" in request.headers:
        raise ValidationError({"Idempotency-Key": "This works only for a job. Send the header Prefer: respond-async."})
    return as_job


def asked_for_work(request: Request, serializer: type[JobOptionsSerializer]) -> tuple[bool, dict[str, Any]]:
    """Whether the work becomes a job, and the validated body. Raises ValidationError."""
    as_job = prefers_job(request)
    wanted = serializer(data=request.data, context={"as_job": as_job, "consumer": consumer_of(request).slug})
    wanted.is_valid(raise_exception=True)
    return as_job, wanted.validated_data


def accept_job(request: Request, *, kind: Job.Kind, wanted: dict[str, Any]) -> Response:
    """Creates a job and answers 202.

    `wanted`: the validated body, as `create_job` takes it, and OF_THE_JOB.
    """
    options = {name: value for name, value in wanted.items() if name in OF_THE_JOB}
    work = {name: value for name, value in wanted.items() if name not in OF_THE_JOB}
    job = lifecycle.create_job(
        consumer=consumer_of(request), kind=kind, wanted=work, idempotency_key=_idempotency_key(request), **options
    )
    response = _answer(job, status=202)
    response["Location"] = reverse("job", args=[job.pk])
    response["Preference-Applied"] = "respond-async"
    response["Vary"] = VARY["Vary"]
    return response


def _idempotency_key(request: Request) -> str | None:
    """The header as plain text or as a quoted string (draft-ietf-httpapi-idempotency-key-header)."""
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    key = given.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise IdempotencyKeyMalformed(f"An idempotency key must have 1 to {MAX_KEY_LENGTH} printable ASCII characters.")
    return key


def _answer(job: Job, *, status: int = 200) -> Response:
    quota = get_status()
    return Response(job_detail(job, quota), status=status, headers=ratelimit_headers(quota))


def job_of(request: Request, job_id: UUID) -> Job:
    job = get_job(job_id, consumer=consumer_of(request))
    if job is None:
        raise NotFound(f"You have no job {job_id}.")
    return job


class JobView(APIView):
    @extend_schema(operation_id="job", summary="A job", responses={200: JobDetailSerializer})
    def get(self, request: Request, job_id: UUID) -> Response:
        """Its progress, expected end, calls spent, failures with their reasons, and result."""
        return _answer(job_of(request, job_id))


def _changes_a_job(operation: str, summary: str, *statuses: int, has_items: bool = False) -> Callable[[Post], Post]:
    extensions = {"x-changes-a-job": True} | ({"x-has-items": True} if has_items else {})
    responses = dict.fromkeys(statuses, JobDetailSerializer)
    return extend_schema(
        operation_id=operation, summary=summary, request=None, responses=responses, extensions=extensions
    )


class JobCancelView(APIView):
    @_changes_a_job("job_cancel", "Cancel a job", 200, 202)
    def post(self, request: Request, job_id: UUID) -> Response:
        """What is done stays done. 202: the job is running and ends when what is under way has come in."""
        job = lifecycle.cancel_job(job_of(request, job_id).pk)
        return _answer(job, status=202 if job.ended_at is None else 200)


class JobPauseView(APIView):
    @_changes_a_job("job_pause", "Pause a job", 200, 202)
    def post(self, request: Request, job_id: UUID) -> Response:
        """It waits until somebody resumes or cancels it. 202: it is running and pauses after what is under way."""
        job = lifecycle.pause_job(job_of(request, job_id).pk)
        return _answer(job, status=200 if job.state == Job.State.PAUSED else 202)


class JobResumeView(APIView):
    @_changes_a_job("job_resume", "Resume a paused job", 202)
    def post(self, request: Request, job_id: UUID) -> Response:
        """A worker continues it where it was paused."""
        return _answer(lifecycle.resume_job(job_of(request, job_id).pk), status=202)


class JobRetryView(APIView):
    @_changes_a_job("job_retry", "Retry the failed part of a job", 202, has_items=True)
    def post(self, request: Request, job_id: UUID) -> Response:
        """Asks ISBNdb again only for what failed or was not done when the job ended."""
        return _answer(lifecycle.retry_job(job_of(request, job_id).pk), status=202)


class NewestFirst(CursorPages):
    ordering = "-created_at"
    page_size = 100


class JobsView(generics.ListAPIView[Job]):
    pagination_class = NewestFirst
    serializer_class = JobSerializer

    def get_queryset(self) -> QuerySet[Job]:
        return jobs_of(consumer_of(self.request)).filter(**asked_for(self.request, JobsQuerySerializer))

    @extend_schema(operation_id="jobs", summary="Your jobs, newest first", parameters=[JobsQuerySerializer])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One page of jobs. `next` and `previous` are the addresses of the pages next to it."""
        return super().get(request, *args, **kwargs)


class InOrder(CursorPages):
    ordering = "position"
    page_size = 1000


class JobItemsView(generics.ListAPIView[JobItem]):
    pagination_class = InOrder
    serializer_class = JobItemSerializer

    def get_queryset(self) -> QuerySet[JobItem]:
        job = job_of(self.request, self.kwargs["job_id"])
        check_items(job)
        return job.items.filter(**asked_for(self.request, JobItemsQuerySerializer))

    @extend_schema(
        operation_id="job_items",
        summary="The ISBNs of a job",
        parameters=[JobItemsQuerySerializer],
        extensions={"x-has-items": True},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The outcome of each ISBN, 1,000 per page. Only jobs of ISBNs have items, until JOB_ITEMS_KEEP_DAYS."""
        return super().get(request, *args, **kwargs)


class JobAuthorsView(generics.ListAPIView[JobAuthor]):
    pagination_class = InOrder
    serializer_class = JobAuthorSerializer

    def get_queryset(self) -> QuerySet[JobAuthor]:
        job = job_of(self.request, self.kwargs["job_id"])
        check_items(job)
        return job.authors.filter(**asked_for(self.request, JobAuthorsQuerySerializer)).defer("progress")

    @extend_schema(
        operation_id="job_authors",
        summary="The authors of a job",
        parameters=[JobAuthorsQuerySerializer],
        extensions={"x-has-items": True},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Each author with its figures, 1,000 per page. Only jobs of authors have them, until JOB_ITEMS_KEEP_DAYS."""
        return super().get(request, *args, **kwargs)
