"""Requests and answers of the endpoints for ISBNs and books."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from enrichment.books.fields import FIELDS
from enrichment.books.shown import SHOWN_FIELDS, TIMES, shown_edition
from enrichment.models import Edition
from enrichment.serializers.fields import SpendingAnswerSerializer, SpendingRequestSerializer
from enrichment.serializers.jobs import JobOptionsSerializer
from quota.serializers import EXAMPLE_STATUS, example

MAX_LIST_ISBNS = 1000
MAX_JOB_ISBNS = 100_000


@extend_schema_field(
    {"oneOf": [{"type": "string", "maxLength": 100}, {"type": "integer"}], "example": "978-0-7653-7654-0"}
)
class IsbnValueField(serializers.Field[str | int, str | int, str | int, Any]):
    """A string or a whole number. Whether it is an ISBN is checked later and reported for each value."""

    default_error_messages = {
        "type": "An ISBN must be a string or a whole number.",
        "length": "An ISBN has at most 100 characters.",
    }

    def to_internal_value(self, data: object) -> str | int:
        if isinstance(data, bool) or not isinstance(data, str | int):
            self.fail("type")
        if len(str(data)) > 100:
            self.fail("length")
        return data

    def to_representation(self, value: str | int) -> str | int:
        return value


def isbn_list(max_isbns: int, message: str) -> serializers.ListField:
    return serializers.ListField(
        child=IsbnValueField(),
        min_length=1,
        max_length=max_isbns,
        error_messages=dict.fromkeys(("required", "null", "not_a_list", "min_length", "max_length"), message),
        help_text="ISBN-10s and ISBN-13s in any usual form, with hyphens, spaces or prefixes. Duplicates count once.",
    )


class IsbnListSerializer(SpendingRequestSerializer):
    """ISBNs with a source, or a bare list of ISBNs."""

    isbns = isbn_list(MAX_LIST_ISBNS, f"Give a list of 1 to {MAX_LIST_ISBNS:,} ISBNs.")

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Accepts a bare list too. Checks the length first: a million wrong values must not make a million errors."""
        body = {"isbns": data} if isinstance(data, list) else data
        isbns = body.get("isbns") if isinstance(body, dict) else None
        if isinstance(isbns, list) and len(isbns) > self.max_list_isbns():
            raise serializers.ValidationError(
                {"isbns": [self.fields["isbns"].error_messages["max_length"]]}, code="max_length"
            )
        return super().run_validation(body)

    def max_list_isbns(self) -> int:
        return MAX_LIST_ISBNS


@example({"isbns": ["978-0-7352-1129-2", 9780593135204, "9780593135205"], "source": "shelf 7"}, request_only=True)
class BatchRequestSerializer(JobOptionsSerializer, IsbnListSerializer):
    isbns = isbn_list(
        MAX_JOB_ISBNS, f"Give a list of 1 to {MAX_LIST_ISBNS:,} ISBNs, {MAX_JOB_ISBNS:,} with `Prefer: respond-async`."
    )
    refresh = serializers.BooleanField(
        required=False,
        default=False,
        help_text="Ask ISBNdb again also for fresh editions and for ISBNs remembered as unknown. Stored editions come "
        "by the listings of their authors where that costs fewer calls.",
    )

    def max_list_isbns(self) -> int:
        return MAX_JOB_ISBNS if self.context.get("as_job") else MAX_LIST_ISBNS


class InvalidIsbnSerializer(serializers.Serializer[Any]):
    isbn = serializers.CharField(help_text="The value as it was sent.")
    reason = serializers.ChoiceField(["wrong check digit", "wrong length", "not an ISBN"])


class FailedIsbnSerializer(serializers.Serializer[Any]):
    isbn = serializers.CharField(allow_null=True, help_text="null when ISBNdb sent a book without a usable ISBN.")
    error = serializers.CharField()


class EnrichmentSerializer(serializers.Serializer[Any]):
    """valid = already_fresh + enriched + not_found + failed."""

    requested = serializers.IntegerField(help_text="Number of values sent.")
    valid = serializers.IntegerField(help_text="Number of different valid ISBNs among them.")
    found = serializers.IntegerField(help_text="ISBNs that ISBNdb was asked for and knows.")
    enriched = serializers.IntegerField(help_text="Found books that are stored: created, updated or unchanged.")
    created = serializers.IntegerField(help_text="New editions.")
    updated = serializers.IntegerField(help_text="Changed editions.")
    already_fresh = serializers.IntegerField(help_text="ISBNs with a fresh stored edition. They cost no call.")
    not_found = serializers.IntegerField(help_text="ISBNs that ISBNdb does not know, now or when it was last asked.")
    failed = serializers.IntegerField(help_text="ISBNs without a result; `errors` says why.")
    invalid = InvalidIsbnSerializer(many=True)
    not_found_isbns = serializers.ListField(child=serializers.CharField())
    errors = FailedIsbnSerializer(many=True)  # type: ignore[assignment]  # a field of that name
    api_calls = serializers.IntegerField(help_text="Calls that this request spent, including retries.")


@example(
    {
        "requested": 3,
        "valid": 2,
        "found": 1,
        "enriched": 1,
        "created": 1,
        "updated": 0,
        "already_fresh": 1,
        "not_found": 0,
        "failed": 0,
        "invalid": [{"isbn": "9780593135205", "reason": "wrong check digit"}],
        "not_found_isbns": [],
        "ask_again_at": {},
        "errors": [],
        "api_calls": 1,
        "duration_ms": 412,
        "quota": EXAMPLE_STATUS,
    }
)
class BatchAnswerSerializer(SpendingAnswerSerializer, EnrichmentSerializer):
    """The result of the request, with the quota."""

    ask_again_at = serializers.DictField(
        child=serializers.DateTimeField(),
        allow_null=True,
        help_text="For each of `not_found_isbns`, the time from which a request asks ISBNdb for it again. null: the "
        "database could not be read.",
    )


class AuthorSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()


class WorkSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    title = serializers.CharField()


@example(
    {name: field.example for name, field in FIELDS.items()}
    | {"work": {"id": 2, "title": "Project Hail Mary"}, "authors": [{"id": 1, "name": "Andy Weir"}]}
    | dict.fromkeys(TIMES, "2026-05-05T11:57:03.120000Z")
)
class EditionSerializer(serializers.ModelSerializer[Edition]):
    """A stored edition. A text that ISBNdb does not send is empty."""

    work = WorkSerializer()
    authors = AuthorSerializer(many=True)
    date_published = serializers.CharField(
        allow_null=True, help_text="The known part of the date: a day, a month or a year."
    )
    date_precision = serializers.ChoiceField(
        Edition.DatePrecision.values,
        allow_blank=True,
        help_text="The known part of the date; empty when there is no date.",
    )

    class Meta:
        model = Edition
        fields = SHOWN_FIELDS
        read_only_fields = fields

    def to_representation(self, edition: Edition) -> dict[str, Any]:
        return shown_edition(edition, self.Meta.fields)
