"""Request and answer of POST /api/books/enrich-new-releases."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from enrichment.gateway.listings import MAX_NAME_LENGTH
from enrichment.serializers.authors import ListingFiguresSerializer
from enrichment.serializers.fields import (
    SearchableField,
    ShortListField,
    SpendingAnswerSerializer,
    SpendingRequestSerializer,
)
from enrichment.serializers.jobs import JobOptionsSerializer
from enrichment.services.releases import (
    MAX_LISTINGS,
    MAX_MONTHS,
    MAX_MONTHS_AHEAD,
    MAX_PAGES_PER_MONTH,
    MAX_SUBJECTS,
    BadToken,
    Wanted,
    parse_month,
    read_token,
)


@extend_schema_field({"type": "string", "pattern": r"^[0-9]{4}-(0[1-9]|1[0-2])$", "example": "2026-01"})
class MonthField(serializers.Field[date, str, str, date]):
    """`YYYY-MM` outside, the first day of the month inside."""

    default_error_messages = {"format": "Write a month as YYYY-MM, for example 2026-01."}

    def to_internal_value(self, data: Any) -> date:
        try:
            return parse_month(data)
        except (TypeError, ValueError):
            self.fail("format")

    def to_representation(self, value: date) -> str:
        return f"{value:%Y-%m}"


OPTIONS = ("source", "on_exhausted", "notify_url")
"""What says how the work is done, not which."""


class NewReleasesRequestSerializer(JobOptionsSerializer, SpendingRequestSerializer):
    """Either the months, or `resume`, which contains all of them. Returns `wanted` and `place`."""

    start_month = MonthField(required=False)
    end_month = MonthField(required=False, help_text="Inclusive.")
    max_pages_per_month = serializers.IntegerField(
        min_value=1,
        max_value=MAX_PAGES_PER_MONTH,
        default=MAX_PAGES_PER_MONTH,
        help_text="Maximum number of pages of 1,000 books, for each month and subject.",
    )
    subjects = ShortListField(
        child=SearchableField(max_length=MAX_NAME_LENGTH),
        max_length=MAX_SUBJECTS,
        default=list,
        help_text="Only books on these subjects; all books when the list is empty. Each subject is a separate search.",
    )
    skip_existing = serializers.BooleanField(default=True, help_text="Do not update stored editions that are fresh.")
    resume = serializers.CharField(
        max_length=10_000,
        required=False,
        help_text="The `resume` of a run that stopped. With it, only `source`, `on_exhausted` and `notify_url` can be "
        "sent.",
    )

    def validate_end_month(self, value: date) -> date:
        today = timezone.now().date()
        if _number(value) > _number(today) + MAX_MONTHS_AHEAD:
            raise serializers.ValidationError(f"It can be at most {MAX_MONTHS_AHEAD} months in the future.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        token = attrs.get("resume")
        others: dict[str, Any] = {name: attrs[name] for name in OPTIONS if name in attrs}
        if token is None:
            return {"wanted": _wanted(attrs), "place": None, **others}
        if unwanted := self._given() - {"resume", *OPTIONS}:
            raise serializers.ValidationError(
                dict.fromkeys(sorted(unwanted), "Leave this field out: `resume` contains it.")
            )
        try:
            wanted, place = read_token(token, consumer=self.context["consumer"])
        except BadToken as error:
            raise serializers.ValidationError({"resume": str(error)}) from error
        return {"wanted": wanted, "place": place, **others}

    def _given(self) -> set[str]:
        given: Mapping[str, object] = self.initial_data
        return set(given) & set(self.fields)


def _wanted(attrs: Mapping[str, Any]) -> Wanted:
    """The new releases that the fields describe. Raises ValidationError when the fields contradict each other."""
    if missing := [name for name in ("start_month", "end_month") if name not in attrs]:
        raise serializers.ValidationError(dict.fromkeys(missing, "This field is required."), code="required")
    months = _number(attrs["end_month"]) - _number(attrs["start_month"]) + 1
    if months < 1:
        raise serializers.ValidationError({"end_month": "end_month must not be before start_month."})
    if months > MAX_MONTHS:
        raise serializers.ValidationError(
            {"end_month": f"{months} months are too many: at most {MAX_MONTHS} in one request."}
        )
    subjects = tuple(dict.fromkeys(attrs["subjects"]))
    if months * len(subjects) > MAX_LISTINGS:
        message = f"Months times subjects are {months * len(subjects)}: at most {MAX_LISTINGS} in one request."
        raise serializers.ValidationError({"subjects": message})
    return Wanted(
        start_month=attrs["start_month"],
        end_month=attrs["end_month"],
        max_pages_per_month=attrs["max_pages_per_month"],
        subjects=subjects,
        skip_existing=attrs["skip_existing"],
    )


def _number(month: date) -> int:
    """The number of months since the year 0."""
    return month.year * 12 + month.month


class NewReleasesSerializer(ListingFiguresSerializer):
    complete = serializers.BooleanField(
        help_text="Every month and subject is done, apart from the rest of the months in `months_cut`."
    )
    quota_exhausted = serializers.BooleanField(
        help_text="The quota stopped it. Continue with `resume` after `reset_at`."
    )
    months_processed = serializers.ListField(
        child=MonthField(), help_text="Months in which every subject is done, in this run or an earlier one."
    )
    months_cut = serializers.ListField(
        child=MonthField(),
        help_text="Months of this run with more books than `max_pages_per_month` allows, or than ISBNdb returns.",
    )
    resume = serializers.CharField(
        allow_null=True, help_text="Send it as `resume` to fetch exactly what is missing. null: nothing is."
    )


class NewReleasesAnswerSerializer(SpendingAnswerSerializer, NewReleasesSerializer):
    """The same, with the quota."""
