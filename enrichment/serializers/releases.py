"""What POST /api/books/enrich-new-releases takes and gives."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from enrichment.gateway.listings import MAX_NAME_LENGTH
from enrichment.serializers.bibliographies import ListingFiguresSerializer
from enrichment.serializers.fields import (
    SearchableField,
    ShortListField,
    SpendingAnswerSerializer,
    SpendingRequestSerializer,
)
from enrichment.serializers.jobs import JobOptionsSerializer
from enrichment.services.releases import (
    MONTHS_AHEAD,
    MOST_LISTINGS,
    MOST_MONTHS,
    MOST_PAGES,
    MOST_SUBJECTS,
    BadToken,
    Wanted,
    parse_month,
    read_token,
)


@extend_schema_field({"type": "string", "pattern": r"^[0-9]{4}-(0[1-9]|1[0-2])$", "example": "2026-01"})
class MonthField(serializers.Field[date, str, str, date]):
    """`YYYY-MM`; inside, the first day of the month."""

    default_error_messages = {"format": "A month is written YYYY-MM, as in 2026-01."}

    def to_internal_value(self, data: Any) -> date:
        try:
            return parse_month(data)
        except (TypeError, ValueError):
            self.fail("format")

    def to_representation(self, value: date) -> str:
        return f"{value:%Y-%m}"


class NewReleasesRequestSerializer(JobOptionsSerializer, SpendingRequestSerializer):
    """Either the months, or `resume` alone: it says everything. Gives `wanted` and `position`."""

    start_month = MonthField(required=False)
    end_month = MonthField(required=False, help_text="Inclusive.")
    max_pages_per_month = serializers.IntegerField(
        min_value=1,
        max_value=MOST_PAGES,
        required=False,
        default=MOST_PAGES,
        help_text="At most so many pages of 1,000 books for each month and subject.",
    )
    subjects = ShortListField(
        child=SearchableField(max_length=MAX_NAME_LENGTH),
        max_length=MOST_SUBJECTS,
        required=False,
        default=list,
        help_text="Only books on these; all books when empty. Each is asked for by itself.",
    )
    skip_existing = serializers.BooleanField(
        required=False, default=True, help_text="Leave stored editions that are fresh as they are."
    )
    resume = serializers.CharField(
        max_length=10_000,
        required=False,
        help_text="`resume` of a run that stopped; beside it only `source` and `on_exhausted`.",
    )

    def validate_end_month(self, value: date) -> date:
        today = timezone.now().date()
        if _number(value) > _number(today) + MONTHS_AHEAD:
            raise serializers.ValidationError(f"It may be {MONTHS_AHEAD} months ahead at the most.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        token = attrs.get("resume")
        others: dict[str, Any] = {name: attrs[name] for name in ("source", "on_exhausted") if name in attrs}
        if token is None:
            return {"wanted": _wanted(attrs), "position": None, **others}
        if unwanted := self._given() - {"resume", "source", "on_exhausted"}:
            raise serializers.ValidationError(dict.fromkeys(sorted(unwanted), "Leave it out: `resume` says it."))
        try:
            wanted, position = read_token(token)
        except BadToken as error:
            raise serializers.ValidationError({"resume": str(error)}) from error
        return {"wanted": wanted, "position": position, **others}

    def _given(self) -> set[str]:
        given: Mapping[str, object] = self.initial_data
        return set(given) & set(self.fields)


def _wanted(attrs: Mapping[str, Any]) -> Wanted:
    """Which new releases are meant. Raises ValidationError where fields do not go together."""
    if missing := [name for name in ("start_month", "end_month") if name not in attrs]:
        raise serializers.ValidationError(dict.fromkeys(missing, "This field is required."), code="required")
    months = _number(attrs["end_month"]) - _number(attrs["start_month"]) + 1
    if months < 1:
        raise serializers.ValidationError({"end_month": "It must not be before start_month."})
    if months > MOST_MONTHS:
        raise serializers.ValidationError({"end_month": f"At most {MOST_MONTHS} months at a time, not {months}."})
    subjects = tuple(dict.fromkeys(attrs["subjects"]))
    if months * len(subjects) > MOST_LISTINGS:
        message = f"At most {MOST_LISTINGS} months times subjects at a time, not {months * len(subjects)}."
        raise serializers.ValidationError({"subjects": message})
    return Wanted(
        start_month=attrs["start_month"],
        end_month=attrs["end_month"],
        max_pages_per_month=attrs["max_pages_per_month"],
        subjects=subjects,
        skip_existing=attrs["skip_existing"],
    )


def _number(month: date) -> int:
    """Months since the year 0."""
    return month.year * 12 + month.month


class NewReleasesSerializer(ListingFiguresSerializer):
    """books_found = already_existed + new ones. With `skip_existing`, only those new or not fresh are stored."""

    complete = serializers.BooleanField(help_text="Every month and subject is done, as far as `months_cut` allows.")
    quota_exhausted = serializers.BooleanField(help_text="The quota ended it; go on with `resume` after `reset_at`.")
    months_processed = serializers.ListField(
        child=MonthField(), help_text="Months of which every subject is done, in this run or those before."
    )
    months_cut = serializers.ListField(
        child=MonthField(),
        help_text="Months of this run with more books than the pages asked for, or ISBNdb, give.",
    )
    resume = serializers.CharField(
        allow_null=True, help_text="Send it as `resume` to get exactly what is missing; null when nothing is."
    )


class NewReleasesAnswerSerializer(SpendingAnswerSerializer, NewReleasesSerializer):
    """The same, with the quota."""
