"""What the queue's API takes and gives."""

from typing import Any

from rest_framework import serializers

from enrichment.models import Wish
from enrichment.serializers.books import InvalidIsbnSerializer, IsbnListSerializer
from quota.serializers import QuotaStatusSerializer

PRIORITIES = [priority.label for priority in reversed(Wish.Priority)]


class WishRequestSerializer(IsbnListSerializer):
    priority = serializers.ChoiceField(
        PRIORITIES, default="normal", help_text="high waits 10 seconds at the most, normal 60, low an hour."
    )

    def validate_priority(self, value: str) -> Wish.Priority:
        return Wish.Priority[value.upper()]


class AcceptedSerializer(serializers.Serializer[Any]):
    """valid = queued + already_queued + already_fresh + not_found."""

    requested = serializers.IntegerField(help_text="Values given.")
    valid = serializers.IntegerField(help_text="Distinct ISBNs among them.")
    queued = serializers.IntegerField(help_text="Wait now, and did not before.")
    already_queued = serializers.IntegerField(help_text="Waited before, whoever asked; they stay one wish.")
    already_fresh = serializers.IntegerField(help_text="Stored and recent enough: not queued.")
    not_found = serializers.IntegerField(help_text="Unknown to ISBNdb when last asked: not queued.")
    invalid = InvalidIsbnSerializer(many=True)


class WishAnswerSerializer(AcceptedSerializer):
    depth = serializers.IntegerField(help_text="Distinct ISBNs that wait now, of all callers.")
    next_flush_at = serializers.DateTimeField(allow_null=True, help_text="null: nothing waits.")
    warning = serializers.CharField(allow_null=True, help_text="Why wishes do not come true; null while they do.")
    api_calls = serializers.IntegerField(help_text="0: a wish spends none.")
    quota = QuotaStatusSerializer()


class DepthSerializer(serializers.Serializer[Any]):
    high = serializers.IntegerField()
    normal = serializers.IntegerField()
    low = serializers.IntegerField()


class FailedWishSerializer(serializers.Serializer[Any]):
    isbn = serializers.CharField()
    error = serializers.CharField(allow_blank=True, help_text="Empty: whoever asked for it died every time.")


class QueueSerializer(serializers.Serializer[Any]):
    """Counts are of distinct ISBNs."""

    depth = serializers.IntegerField(help_text="ISBNs that wait, those under way included.")
    by_priority = DepthSerializer()
    under_way = serializers.IntegerField(help_text="Being asked for now.")
    full_batches = serializers.IntegerField(help_text="Full batches that could be sent now.")
    oldest_asked_at = serializers.DateTimeField(allow_null=True)
    oldest_age_seconds = serializers.IntegerField(allow_null=True)
    next_flush_at = serializers.DateTimeField(
        allow_null=True, help_text="When a batch is worth a call, as things stand; null: nothing waits."
    )
    next_flush_why = serializers.ChoiceField(
        ["full_batch", "high_due", "normal_due", "low_due", "retry", "paused"],
        allow_null=True,
        help_text="retry: what failed is tried again; paused: ISBNdb failed, and is left alone until then.",
    )
    failed = serializers.IntegerField(help_text="Tried so often that they are not tried again by themselves.")
    latest_failed = FailedWishSerializer(many=True, help_text="Up to 10 of them.")
    looked_at = serializers.DateTimeField(allow_null=True, help_text="When a worker last looked at the queue.")
    flushed_at = serializers.DateTimeField(allow_null=True, help_text="When a batch was last sent and answered.")
    stopped_reason = serializers.CharField(
        allow_null=True, help_text="What ended the last flush early: a limit of the quota, or what failed."
    )
    warning = serializers.CharField(allow_null=True, help_text="Why wishes do not come true; null while they do.")
    quota = QuotaStatusSerializer()
