"""Requests and answers of the queue's API."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from enrichment.models import QueuedIsbn
from enrichment.selectors.queue import QueueOverview
from enrichment.serializers.books import NOTES, InvalidIsbnSerializer, IsbnItemSerializer, IsbnListSerializer
from quota.serializers import QuotaStatusSerializer

PRIORITIES = [priority.label for priority in reversed(QueuedIsbn.Priority)]


class EnqueueRequestSerializer(IsbnListSerializer):
    priority = serializers.ChoiceField(
        PRIORITIES,
        default="normal",
        help_text="Maximum wait for a full batch: high 10 seconds, normal 60 seconds, low 1 hour.",
    )

    def validate_priority(self, value: str) -> QueuedIsbn.Priority:
        return QueuedIsbn.Priority[value.upper()]


class AcceptedSerializer(serializers.Serializer[Any]):
    """requested = valid + the length of invalid + duplicates. valid = queued + already_queued + already_fresh +
    not_found.
    """

    requested = serializers.IntegerField(help_text="Number of ISBNs given, and of values that are none.")
    valid = serializers.IntegerField(help_text="Number of distinct ISBNs among them.")
    duplicates = serializers.IntegerField(help_text="ISBNs that came before in the list, in any form.")
    queued = serializers.IntegerField(help_text="Added to the queue by this request.")
    already_queued = serializers.IntegerField(help_text="Waited already, for any caller. They stay in the queue once.")
    already_fresh = serializers.IntegerField(help_text="Stored and recent enough; not queued.")
    not_found = serializers.IntegerField(help_text="Unknown to ISBNdb when last asked; not queued.")
    invalid = InvalidIsbnSerializer(many=True)


class YourPartSerializer(serializers.Serializer[Any]):
    """What the caller has in the queue. Each consumer pays for its own ISBNs when they are sent."""

    isbns = serializers.IntegerField(help_text="ISBNs of the caller that wait, including those under way.")
    refused_by = serializers.CharField(
        allow_null=True, help_text="The limit or switch for which they wait. null: the caller can pay for them now."
    )
    why = serializers.CharField(allow_null=True, help_text="The same, in words for people.")


class EnqueueAnswerSerializer(AcceptedSerializer):
    items = IsbnItemSerializer(many=True, required=False, help_text='Only with `"return": "items"`, in your order.')
    notes = NOTES
    yours = YourPartSerializer()
    depth = serializers.IntegerField(help_text="Number of distinct ISBNs that wait now, of all callers.")
    next_flush_at = serializers.DateTimeField(
        allow_null=True, help_text="When the next batch is sent. null: nothing waits that somebody can pay for."
    )
    warning = serializers.CharField(allow_null=True, help_text="Why the queue does not move; null while it does.")
    api_calls = serializers.IntegerField(help_text="Always 0: queuing spends no call.")
    quota = QuotaStatusSerializer()


class DepthSerializer(serializers.Serializer[Any]):
    high = serializers.IntegerField()
    normal = serializers.IntegerField()
    low = serializers.IntegerField()


class QueueFailureSerializer(serializers.Serializer[Any]):
    isbn = serializers.CharField()
    error = serializers.CharField(allow_blank=True, help_text="Empty: the worker died on every attempt.")


class QueueSerializer(serializers.Serializer[Any]):
    """Every count is a number of distinct ISBNs. The context has the `consumer`, a slug."""

    yours = serializers.SerializerMethodField()
    depth = serializers.IntegerField(help_text="ISBNs that wait, including those under way.")
    by_priority = DepthSerializer(help_text="The highest priority of all who asked for an ISBN counts.")
    under_way = serializers.IntegerField(help_text="ISBNs in a batch that is being sent now.")
    full_batches = serializers.IntegerField(help_text="Number of full batches that could be sent now.")
    oldest_asked_at = serializers.DateTimeField(allow_null=True)
    oldest_age_seconds = serializers.IntegerField(allow_null=True)
    next_flush_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When the next batch is worth a request. null: nothing waits that somebody can pay for.",
    )
    next_flush_why = serializers.ChoiceField(
        ["full_batch", "high_due", "normal_due", "low_due", "retry", "paused"],
        allow_null=True,
        help_text="retry: an ISBN that failed is tried again. paused: a batch failed, and the queue pauses until then.",
    )
    failed = serializers.IntegerField(
        help_text="ISBNs that have used all their attempts. They are not tried again automatically."
    )
    latest_failed = QueueFailureSerializer(many=True, help_text="The latest of them, at most 10.")
    looked_at = serializers.DateTimeField(allow_null=True, help_text="When a worker last looked at the queue.")
    flushed_at = serializers.DateTimeField(allow_null=True, help_text="When ISBNdb last answered a batch.")
    stopped_reason = serializers.CharField(
        allow_null=True, help_text="Why the last flush ended early: a limit of the quota, or what failed."
    )
    warning = serializers.CharField(allow_null=True, help_text="Why the queue does not move; null while it does.")
    quota = QuotaStatusSerializer()

    @extend_schema_field(YourPartSerializer)
    def get_yours(self, queue: QueueOverview) -> dict[str, Any]:
        return dict(YourPartSerializer(queue.of(self.context["consumer"])).data)
