from typing import Any

from rest_framework import serializers

from quota.selectors import QuotaStatus, key_charged, last_reconciliation


class QuotaStatusSerializer(serializers.Serializer[Any]):
    """Today's quota, in calls. remaining = safety_limit - used - reserved, and never below 0."""

    daily_limit = serializers.IntegerField(help_text="What ISBNdb sells us a day.")
    safety_limit = serializers.IntegerField(help_text="What we use of it.")
    used = serializers.IntegerField(help_text="Calls dispatched today, whatever became of them.")
    reserved = serializers.IntegerField(help_text="Calls set aside for operations that are under way.")
    remaining = serializers.IntegerField(help_text="Calls that are free.")
    reset_at = serializers.DateTimeField(help_text="The next midnight UTC.")
    percentage_used = serializers.IntegerField(help_text="Of the safety limit, rounded down.")
    enforcement = serializers.ChoiceField(["enforce", "observe"], help_text="observe: counted, never refused.")
    can_make_calls = serializers.BooleanField(
        help_text="Whether a call would be granted now, to a consumer with neither floor nor daily budget."
    )
    closed_reason = serializers.CharField(
        allow_null=True, help_text="What ISBNdb said when it closed the day; null while the day is open."
    )


class IsbndbCounterSerializer(serializers.Serializer[Any]):
    """ISBNdb's own counter as it was last asked for today, beside ours of that moment."""

    answered_at = serializers.DateTimeField()
    spent = serializers.IntegerField(help_text="Calls that ISBNdb counts.")
    total = serializers.IntegerField(help_text="Calls that ISBNdb sells us a day.")
    used = serializers.IntegerField(help_text="Calls that we counted.")
    drift = serializers.IntegerField(help_text="ISBNdb's count less ours; below 0 where we count more.")
    raised_by = serializers.IntegerField(help_text="Calls that were put on our ledger because of it.")
    ignored = serializers.CharField(help_text="Why the answer was not used; empty when it was.")


class QuotaCounterSerializer(serializers.Serializer[Any]):
    isbndb = IsbndbCounterSerializer(allow_null=True, help_text="null: not asked for today.")
    key_charged = serializers.BooleanField(
        allow_null=True, help_text="Whether ISBNdb charges GET /key, by its own answers; null: they could not tell yet."
    )


class QuotaStatusDetailSerializer(QuotaCounterSerializer, QuotaStatusSerializer):
    """Today's quota, and ISBNdb's own counter."""


def status_detail(status: QuotaStatus) -> dict[str, Any]:
    """The body of GET /api/quota/status. Raises QuotaUnavailable."""
    counter = {"isbndb": last_reconciliation(status.day), "key_charged": key_charged()}
    return {**QuotaStatusSerializer(status).data, **QuotaCounterSerializer(counter).data}
