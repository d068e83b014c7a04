from typing import Any

from rest_framework import serializers


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
    can_make_calls = serializers.BooleanField(help_text="Whether a call would be granted now.")
    closed_reason = serializers.CharField(
        allow_null=True, help_text="What ISBNdb said when it closed the day; null while the day is open."
    )
