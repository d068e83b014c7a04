"""What several requests, or answers, have in common."""

from typing import Any

from rest_framework import serializers

from enrichment.serializers.strict import StrictSerializer
from quota.serializers import QuotaStatusSerializer

OUR_SOURCES = ("job:", "run:", "bulk:")
"""Whose calls are counted by their source: jobs, runs of crons, bulk harvests."""


class SpendingRequestSerializer(StrictSerializer):
    """A request that may spend calls."""

    source = serializers.CharField(  # type: ignore[assignment]  # a field of that name, not the option
        max_length=100, required=False, default="", allow_blank=True, help_text="What it is for; kept in the journal."
    )

    def validate_source(self, value: str) -> str:
        if value.startswith(OUR_SOURCES):
            raise serializers.ValidationError(f"It may not begin with {', '.join(OUR_SOURCES)}: those are ours.")
        return value


class SpendingAnswerSerializer(serializers.Serializer[Any]):
    """What `spending_answer` adds."""

    duration_ms = serializers.IntegerField()
    quota = QuotaStatusSerializer(allow_null=True, help_text="null: it could not be asked; the work is done.")


class SearchableField(serializers.CharField):
    """Text that becomes part of an address of ISBNdb: `..` or `/` alone would lead elsewhere."""

    default_error_messages = {"no_word": "There must be a letter or a digit in it."}

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if not any(character.isalnum() for character in value):
            self.fail("no_word")
        return value


class ShortListField(serializers.ListField):
    """A list that is not read when it is too long: each of a million wrong values would get its own error."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            message = f"Ensure this field has no more than {self.max_length} elements."
            raise serializers.ValidationError(message, code="max_length")
        return super().to_internal_value(data)
