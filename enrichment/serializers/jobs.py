"""What the API takes for a job, and what it gives of one."""

from typing import Any

from rest_framework import serializers

from enrichment.models import Job, JobItem
from enrichment.selectors import job_eta, job_failures
from enrichment.serializers.strict import StrictSerializer
from quota.selectors.status import QuotaStatus, calls_spent
from quota.serializers import QuerySerializer, QuotaStatusSerializer


class JobOptionsSerializer(StrictSerializer):
    """What the body of long work may say besides the work; `as_job` in the context: that it is to be a job."""

    on_exhausted = serializers.ChoiceField(
        Job.OnExhausted.choices,
        required=False,
        help_text="Only with `Prefer: respond-async`. What the job does when the quota is used up: fail, so that it "
        "can be retried, or wait and go on by itself. fail unless given.",
    )

    def validate_on_exhausted(self, value: str) -> str:
        if not self.context.get("as_job"):
            raise serializers.ValidationError("Only a job can wait: say Prefer: respond-async.")
        return value


class JobsQuerySerializer(QuerySerializer):
    state = serializers.ChoiceField(Job.State.choices, required=False, help_text="Only those in this state.")


class JobItemsQuerySerializer(QuerySerializer):
    state = serializers.ChoiceField(JobItem.State.choices, required=False, help_text="Only those in this state.")


class JobProgressSerializer(serializers.Serializer[Any]):
    done = serializers.IntegerField(help_text="ISBNs, or pages.")
    total = serializers.IntegerField(help_text="Likewise. Of pages, the most that it can still become.")


class JobSerializer(serializers.Serializer[Job]):
    """A job in short."""

    id = serializers.UUIDField()
    kind = serializers.ChoiceField(Job.Kind.choices)
    state = serializers.ChoiceField(Job.State.choices)
    source = serializers.CharField(  # type: ignore[assignment]  # a field of that name, not the option
        source="wanted.source", default="", help_text="What it is for, as the request said."
    )
    on_exhausted = serializers.ChoiceField(Job.OnExhausted.choices)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    resume_at = serializers.SerializerMethodField(help_text="When it goes on; null unless it waits.")
    cancel_requested = serializers.BooleanField(help_text="While it runs: it ends after the call under way.")
    progress = JobProgressSerializer(source="*")
    stopped_reason = serializers.SerializerMethodField(
        help_text="Why it waits, or is not complete: a limit of the quota, or what failed. null: nothing."
    )
    error = serializers.CharField(help_text="The same for people; empty: nothing.")

    def get_resume_at(self, job: Job) -> str | None:
        waits = job.state == Job.State.WAITING
        return serializers.DateTimeField().to_representation(job.resume_at) if waits else None  # type: ignore[arg-type]

    def get_stopped_reason(self, job: Job) -> str | None:
        return job.stopped_reason or None


class JobItemSerializer(serializers.Serializer[Any]):
    isbn = serializers.CharField(allow_null=True, help_text="The ISBN-13; or, of an invalid one, what was given.")
    state = serializers.ChoiceField(JobItem.State.choices)
    reason = serializers.CharField(help_text="Why it failed or is invalid; otherwise empty.")


class JobFailuresSerializer(serializers.Serializer[Any]):
    by_reason = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="How many, for each reason; of a job of pages, among the first 1,000.",
    )
    first = JobItemSerializer(many=True, help_text="The first 1,000; `items?state=failed` has all of them.")


class JobFiguresSerializer(serializers.Serializer[Any]):
    eta = serializers.DateTimeField(
        allow_null=True,
        help_text="When it would end if nobody else spent any calls, by the quota left and the pace; null when it has "
        "ended, by its consumer's limits never will, or will fail because today's quota is too little for it.",
    )
    api_calls = serializers.IntegerField(help_text="Calls spent so far, whoever worked on it.")
    failures = JobFailuresSerializer(help_text="What failed, and what is no ISBN.")
    result = serializers.JSONField(
        allow_null=True, help_text="What came of it, in the terms of the answer without a job; null until it ends."
    )
    quota = QuotaStatusSerializer()


class JobDetailSerializer(JobFiguresSerializer, JobSerializer):
    """A job, with all that is known of it."""


def job_detail(job: Job, status: QuotaStatus) -> dict[str, Any]:
    """The body of an answer about one job. Raises QuotaUnavailable."""
    figures = {
        "eta": job_eta(job),
        "api_calls": calls_spent(source=job.source),
        "failures": job_failures(job),
        "result": job.result,
        "quota": status,
    }
    return {**JobSerializer(job).data, **JobFiguresSerializer(figures).data}
