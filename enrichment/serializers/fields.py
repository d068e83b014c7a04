"""Fields and base classes that several requests or answers share."""

import re
from calendar import monthrange
from datetime import date
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from alexandria.common.searching import MIN_CHARACTERS, is_searchable
from enrichment.serializers.strict import StrictSerializer
from quota.serializers import QuotaStatusSerializer

OUR_SOURCES = ("job:", "run:")
"""Prefixes of the sources of jobs and cron runs. Their calls are counted by source."""


class SpendingRequestSerializer(StrictSerializer):
    """A request that can spend calls."""

    source = serializers.CharField(  # type: ignore[assignment]  # a field of that name, not the option
        max_length=100, default="", allow_blank=True, help_text="The purpose of the request, for the journal."
    )

    def validate_source(self, value: str) -> str:
        if value.startswith(OUR_SOURCES):
            raise serializers.ValidationError(f"It must not begin with {', '.join(OUR_SOURCES)}: these are reserved.")
        return value


class SpendingAnswerSerializer(serializers.Serializer[Any]):
    """The members that `spending_answer` adds."""

    duration_ms = serializers.IntegerField()
    quota = QuotaStatusSerializer(allow_null=True, help_text="null when the quota could not be read; the work is done.")


class SearchableField(serializers.CharField):
    """A text that becomes part of an ISBNdb address. `..` or `/` alone would be a different address."""

    default_error_messages = {"no_word": "It must contain a letter or a digit."}

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if not any(character.isalnum() for character in value):
            self.fail("no_word")
        return value


class SearchTextField(serializers.CharField):
    """A text that is searched for in the store."""

    default_error_messages = {"too_short": f"It must contain at least {MIN_CHARACTERS} letters or digits."}

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if not is_searchable(value):
            self.fail("too_short")
        return value


class ShortListField(serializers.ListField):
    """A list whose length is checked first, so that a million wrong values do not make a million errors."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            message = f"Ensure this field has no more than {self.max_length} elements."
            raise serializers.ValidationError(message, code="max_length")
        return super().to_internal_value(data)


class ParameterListField(ShortListField):
    """A parameter that can come several times, and that can have several values with commas between them."""

    def to_internal_value(self, data: Any) -> list[Any]:
        values = [part.strip() for value in data for part in str(value).split(",")]
        return super().to_internal_value([value for value in values if value])


_PARTIAL_DATE = r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?"


@extend_schema_field({"type": "string", "pattern": f"^{_PARTIAL_DATE}$"})
class PartialDateField(serializers.Field[date, str, str, Any]):
    """A day, a month or a year: `2023-10-05`, `2023-10` or `2023`. Its value is the first day, or the last one."""

    default_error_messages = {"invalid": "It must be a day, a month or a year: 2023-10-05, 2023-10 or 2023."}

    def __init__(self, *, last: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.last = last

    def to_internal_value(self, data: str) -> date:
        if not (match := re.fullmatch(_PARTIAL_DATE, data)):
            self.fail("invalid")
        year, month, day = (int(part) if part else None for part in match.groups())
        try:
            month = month or (12 if self.last else 1)
            return date(year or 0, month, day or (monthrange(year or 0, month)[1] if self.last else 1))
        except ValueError:
            self.fail("invalid")
