"""Requests and answers about jobs."""

from typing import Any

from rest_framework import serializers

from alexandria.common.addresses import MAX_LENGTH, AddressRefused, check_url
from enrichment.models import Job, JobAuthor, JobItem
from enrichment.selectors.jobs import MAX_FAILURES, author_figures, job_eta, job_failures, suggestion_of
from enrichment.serializers.strict import StrictSerializer
from quota.selectors.status import QuotaStatus, calls_spent
from quota.serializers import QuerySerializer, QuotaStatusSerializer

NOT_ANNOUNCED = (
    "Redis does not answer, so no worker knows of the job yet. The job is stored, and starts within 15 seconds after "
    "Redis answers again."
)


class JobOptionsSerializer(StrictSerializer):
    """Options of a request that can become a job. The context has `as_job` if it does."""

    on_exhausted = serializers.ChoiceField(
        Job.OnExhausted.choices,
        required=False,
        help_text="Only with `Prefer: respond-async`. What the job does when the quota is used up: `fail` (it can be "
        "retried), or `wait` and continue the next day. The default is `fail`.",
    )

    notify_url = serializers.CharField(
        max_length=MAX_LENGTH,
        required=False,
        help_text="Only with `Prefer: respond-async`. A signed message is posted to this address when the job has "
        "succeeded, failed or begun to wait: https:// with a public IP address. The default is the address that staff "
        "have set for your consumer, if any. `GET /api/jobs/webhook` has the secret that signs.",
    )

    def validate_on_exhausted(self, value: str) -> str:
        self._check_is_job()
        return value

    def validate_notify_url(self, value: str) -> str:
        self._check_is_job()
        try:
            check_url(value)
        except AddressRefused as refused:
            raise serializers.ValidationError(str(refused)) from refused
        return value

    def _check_is_job(self) -> None:
        if not self.context.get("as_job"):
            raise serializers.ValidationError("This works only for a job. Send the header Prefer: respond-async.")


class JobsQuerySerializer(QuerySerializer):
    state = serializers.ChoiceField(Job.State.choices, required=False, help_text="Only jobs in this state.")
    kind = serializers.ChoiceField(Job.Kind.choices, required=False, help_text="Only jobs of this kind.")
    list_key = serializers.CharField(max_length=64, required=False, help_text="Only jobs of this list.")


class JobItemsQuerySerializer(QuerySerializer):
    state = serializers.ChoiceField(JobItem.State.choices, required=False, help_text="Only ISBNs in this state.")


class JobAuthorsQuerySerializer(QuerySerializer):
    state = serializers.ChoiceField(JobAuthor.State.choices, required=False, help_text="Only authors in this state.")


class JobProgressSerializer(serializers.Serializer[Any]):
    done = serializers.IntegerField(help_text="Number of ISBNs, pages or authors that are done.")
    total = serializers.IntegerField(help_text="Number of all ISBNs or authors, or maximum number of pages.")


class JobSerializer(serializers.Serializer[Job]):
    """A job in a list of jobs."""

    id = serializers.UUIDField()
    kind = serializers.ChoiceField(Job.Kind.choices)
    state = serializers.ChoiceField(Job.State.choices)
    source = serializers.CharField(  # type: ignore[assignment]  # a field of that name, not the option
        source="wanted.source", default="", help_text="The purpose that the request gave."
    )
    label = serializers.CharField(  # type: ignore[assignment]  # a field of that name, not the option
        help_text="Where its list comes from. Empty: the request gave no label."
    )
    list_key = serializers.CharField(help_text="Identifies its list of authors. Empty: it has none.")
    on_exhausted = serializers.ChoiceField(Job.OnExhausted.choices)
    notify_url = serializers.CharField(help_text="Where messages about it go. Empty: to the address of your consumer.")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    resume_at = serializers.SerializerMethodField(help_text="When it continues. null: it is not waiting.")
    cancel_requested = serializers.BooleanField(
        help_text="If true while the job runs, it ends after the requests that are under way."
    )
    pause_requested = serializers.SerializerMethodField(
        help_text="If true, it is running and pauses after the requests that are under way."
    )
    progress = JobProgressSerializer(source="*")
    stopped_reason = serializers.SerializerMethodField(
        help_text="Why it waits or is not complete: a limit of the quota, or what failed. null: no reason."
    )
    error = serializers.CharField(help_text="The same, as a sentence. Empty: no reason.")
    items_deleted_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When its items were deleted, long after its end. Its figures are kept. null: they are not deleted.",
    )

    def get_resume_at(self, job: Job) -> str | None:
        waits = job.state == Job.State.WAITING
        return serializers.DateTimeField().to_representation(job.resume_at) if waits else None  # type: ignore[arg-type]

    def get_pause_requested(self, job: Job) -> bool:
        return job.stop_requested == Job.Stop.PAUSE and job.state == Job.State.RUNNING

    def get_stopped_reason(self, job: Job) -> str | None:
        return job.stopped_reason or None


class JobFailureSerializer(serializers.Serializer[Any]):
    isbn = serializers.CharField(
        allow_null=True, help_text="The ISBN-13, the given value of an invalid item, or the name of an author."
    )
    state = serializers.ChoiceField(JobItem.State.choices)
    reason = serializers.CharField(help_text="Why it failed or is invalid; otherwise empty.")


class JobItemSerializer(JobFailureSerializer):
    input = serializers.SerializerMethodField(help_text="The value as it was sent.")
    isbn13 = serializers.SerializerMethodField(help_text="null: the value is not an ISBN.")
    suggestion = serializers.SerializerMethodField(help_text="What was probably meant by an invalid value.")

    def get_input(self, item: JobItem) -> str:
        return item.value or item.isbn13

    def get_isbn13(self, item: JobItem) -> str | None:
        return item.isbn13 or None

    def get_suggestion(self, item: JobItem) -> str | None:
        return suggestion_of(item)


class AuthorFiguresSerializer(serializers.Serializer[Any]):
    """Books. found = new + changed + unchanged + already_fresh + failed."""

    found = serializers.IntegerField(help_text="Number of books that ISBNdb returned.")
    new = serializers.IntegerField(help_text="Stored for the first time.")
    changed = serializers.IntegerField(help_text="Stored before, and different now.")
    unchanged = serializers.IntegerField(help_text="Stored before, and still the same.")
    already_fresh = serializers.IntegerField(help_text="Stored and recent enough, so left as they were.")
    failed = serializers.IntegerField(help_text="Not stored.")


class JobAuthorSerializer(AuthorFiguresSerializer):
    """An author of a job, and the books so far."""

    position = serializers.IntegerField(help_text="In the list, from 1.")
    name = serializers.CharField()
    state = serializers.ChoiceField(JobAuthor.State.choices)
    reason = serializers.CharField(help_text="Why it failed or was cut; otherwise empty.")
    pages = serializers.IntegerField(help_text="Number of pages that ISBNdb returned.")
    calls = serializers.IntegerField(help_text="Calls that it cost.")
    already_fresh = serializers.IntegerField(help_text="Stored and recent enough, so left as they were.")


class JobAuthorFiguresSerializer(AuthorFiguresSerializer):
    """The figures of all authors of a job."""

    authors = serializers.IntegerField()
    authors_pending = serializers.IntegerField(help_text="Not done yet.")
    authors_done = serializers.IntegerField(help_text="All books fetched.")
    authors_unknown = serializers.IntegerField(help_text="Unknown to ISBNdb.")
    authors_cut = serializers.IntegerField(help_text="With more books than requested, or than ISBNdb returns.")
    authors_failed = serializers.IntegerField()
    pages_fetched = serializers.IntegerField()


class JobFailuresSerializer(serializers.Serializer[Any]):
    by_reason = serializers.DictField(
        child=serializers.IntegerField(),
        help_text=f"The number for each reason. A job of pages counts only its first {MAX_FAILURES:,}.",
    )
    first = JobFailureSerializer(
        many=True,
        help_text=f"The first {MAX_FAILURES:,}; `items?state=failed` has all of them. Empty once they are deleted.",
    )


class JobFiguresSerializer(serializers.Serializer[Any]):
    eta = serializers.DateTimeField(
        allow_null=True,
        help_text="When it will end if no other consumer spends calls, by the remaining quota and the pace. null: it "
        "has ended, is paused, can never end within its consumer's limits, or will fail because today's quota is too "
        "small.",
    )
    api_calls = serializers.IntegerField(help_text="Calls that the job has spent so far.")
    figures = JobAuthorFiguresSerializer(
        allow_null=True, help_text="The figures so far of a job of authors. null: a job of another kind."
    )
    failures = JobFailuresSerializer(help_text="What failed, and values that are not ISBNs.")
    result = serializers.JSONField(
        allow_null=True, help_text="The result, with the fields of the answer without a job. null: it has not ended."
    )
    notice = serializers.CharField(
        allow_null=True,
        help_text="Only in the answer to a request that queues the job: why it starts later. null: it does not.",
    )
    quota = QuotaStatusSerializer()


class JobDetailSerializer(JobFiguresSerializer, JobSerializer):
    """A job with all its details."""


def job_detail(job: Job, status: QuotaStatus) -> dict[str, Any]:
    """The body of an answer about one job. Raises QuotaUnavailable."""
    figures = {
        "eta": job_eta(job),
        "api_calls": calls_spent(source=job.source),
        "figures": author_figures(job) if job.kind == Job.Kind.AUTHORS else None,
        "failures": job_failures(job),
        "result": job.result,
        "notice": None if job.is_announced else NOT_ANNOUNCED,
        "quota": status,
    }
    return {**JobSerializer(job).data, **JobFiguresSerializer(figures).data}
