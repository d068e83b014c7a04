"""Requests and answers of the endpoints for ISBNs and books."""

from collections.abc import Sequence
from typing import Any, NoReturn

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from enrichment.books.fields import FIELDS
from enrichment.books.shown import SHOWN_FIELDS, TIMES, shown_edition
from enrichment.isbn.files import FileValues
from enrichment.isbn.parsing import Reason
from enrichment.isbn.reading import MAX_SHOWN, read
from enrichment.models import Edition
from enrichment.selectors.lookup import Known
from enrichment.serializers.fields import SpendingAnswerSerializer, SpendingRequestSerializer
from enrichment.serializers.jobs import JobOptionsSerializer
from quota.serializers import EXAMPLE_STATUS, example

MAX_LIST_ISBNS = 1000
MAX_JOB_ISBNS = 100_000
ITEM_STATES = ["enriched", "already_fresh", "not_found", "failed", "queued", "already_queued", "duplicate", "invalid"]
BOOK_STATES = [*(known.value for known in Known), "invalid"]
NOTES = serializers.ListField(
    child=serializers.CharField(),
    help_text="What to know about the file that was sent: the program that wrote it, and what is lost in it.",
)


@extend_schema_field(
    {"oneOf": [{"type": "string"}, {"type": "number"}], "nullable": True, "example": "978-0-7653-7654-0"}
)
class IsbnValueField(serializers.Field[object, object, object, Any]):
    """Any value: a bad one costs itself, and never the list. What is an ISBN is checked later and told for each."""

    def to_internal_value(self, data: object) -> object:
        return data

    def to_representation(self, value: object) -> object:
        return value


class IsbnListField(serializers.ListField):
    """A list in JSON, or the cells of a file."""

    def to_internal_value(self, data: Any) -> list[Any]:
        return data.values if isinstance(data, FileValues) else super().to_internal_value(data)


def isbn_list(max_isbns: int, message: str) -> IsbnListField:
    return IsbnListField(
        child=IsbnValueField(allow_null=True),
        min_length=1,
        max_length=max_isbns,
        error_messages=dict.fromkeys(("required", "null", "not_a_list", "min_length", "max_length"), message),
        help_text="ISBN-10s and ISBN-13s in any usual form, with hyphens, spaces or prefixes, and several in one text. "
        "null, NaN, empty texts, `-` and `[]` are ignored. A bad value is reported and costs only itself.",
    )


class IsbnListSerializer(SpendingRequestSerializer):
    """ISBNs with a source, a bare list of ISBNs, or `isbns` with the cells of a file.

    `validated_data` also has `given`, which is what was read from the values, and the `notes` of the file.
    """

    isbns = isbn_list(MAX_LIST_ISBNS, f"Give a list of 1 to {MAX_LIST_ISBNS:,} ISBNs.")
    spreadsheet = serializers.BooleanField(
        default=False,
        help_text="The values are cells of a spreadsheet: nine digits are an ISBN-10 that has lost the zero in front. "
        "Elsewhere that is only suggested. A file always is a spreadsheet.",
    )
    _notes: Sequence[str] = ()
    returns: tuple[str, ...] = ("counts", "items")
    """The choices of the field `return`, which is a keyword of Python. None: there is no such field."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        if not self.returns:
            return super().get_fields()
        chosen = serializers.ChoiceField(
            self.returns,
            default="counts",
            help_text="What the answer has: only `counts`, or also `items`, the outcome of each value"
            + (", or `books`, what is stored now, as a look-up has it." if "books" in self.returns else "."),
        )
        return {**super().get_fields(), "return": chosen}

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Accepts a bare list too. Checks the length first: a million wrong values must not make a million errors."""
        body = {"isbns": data} if isinstance(data, list) else data
        isbns = body.get("isbns") if isinstance(body, dict) else None
        if isinstance(isbns, FileValues):
            body = {**body, "spreadsheet": True}
            self._notes = isbns.notes
            if not isbns.values:
                nothing = " ".join(["There is no ISBN in the file.", *isbns.notes])
                raise serializers.ValidationError({"isbns": [nothing]}, code="min_length")
        if isinstance(isbns, list) and len(isbns) > self.max_list_isbns():
            self._refuse_length()
        return super().run_validation(body)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Reads the values. The limit holds for what is in them too, because one value can have several ISBNs."""
        given = read(attrs["isbns"], is_spreadsheet=attrs["spreadsheet"])
        if given.requested > self.max_list_isbns():
            self._refuse_length()
        return {**attrs, "given": given, "notes": self._notes}

    def max_list_isbns(self) -> int:
        return MAX_LIST_ISBNS

    def _refuse_length(self) -> NoReturn:
        message = self.fields["isbns"].error_messages["max_length"]
        raise serializers.ValidationError({"isbns": [message]}, code="max_length")


@example({"isbns": ["978-0-7352-1129-2", 9780593135204, "9780593135205"], "source": "shelf 7"}, request_only=True)
class BatchRequestSerializer(JobOptionsSerializer, IsbnListSerializer):
    isbns = isbn_list(
        MAX_JOB_ISBNS, f"Give a list of 1 to {MAX_LIST_ISBNS:,} ISBNs, {MAX_JOB_ISBNS:,} with `Prefer: respond-async`."
    )
    refresh = serializers.BooleanField(
        default=False,
        help_text="Ask ISBNdb again also for fresh editions and for ISBNs remembered as unknown. Stored editions come "
        "by the listings of their authors where that costs fewer calls.",
    )

    returns = ("counts", "items", "books")

    def max_list_isbns(self) -> int:
        return MAX_JOB_ISBNS if self.context.get("as_job") else MAX_LIST_ISBNS


class InvalidIsbnSerializer(serializers.Serializer[Any]):
    isbn = serializers.CharField(source="input", help_text="The value as it was sent.")
    reason = serializers.ChoiceField([reason.value for reason in Reason])


@example(
    {"input": "439023483", "isbn13": None, "state": "invalid", "reason": "wrong length", "suggestion": "0439023483"}
)
class IsbnItemSerializer(serializers.Serializer[Any]):
    """What became of an ISBN, or of a value that is none."""

    input = serializers.CharField(
        help_text=f"The value as it was sent, or the part of it if the value has several ISBNs. At most {MAX_SHOWN} "
        "characters."
    )
    isbn13 = serializers.CharField(allow_null=True, help_text="null: the value is not an ISBN.")
    state = serializers.ChoiceField(ITEM_STATES, help_text="A `duplicate` has the same ISBN-13 as an item before it.")
    reason = serializers.CharField(help_text="Why it failed or is invalid; otherwise empty.")
    suggestion = serializers.CharField(
        allow_null=True,
        help_text="What was probably meant by an invalid value: with a zero in front, two digits swapped, or another "
        "check digit. It is never taken by itself.",
    )


class FailedIsbnSerializer(serializers.Serializer[Any]):
    isbn = serializers.CharField(allow_null=True, help_text="null when ISBNdb sent a book without a usable ISBN.")
    error = serializers.CharField()


class EnrichmentSerializer(serializers.Serializer[Any]):
    """requested = valid + the length of invalid + duplicates. valid = already_fresh + enriched + not_found + failed."""

    requested = serializers.IntegerField(help_text="Number of ISBNs sent, and of values that are none.")
    valid = serializers.IntegerField(help_text="Number of different valid ISBNs among them.")
    duplicates = serializers.IntegerField(help_text="ISBNs that came before in the list, in any form.")
    found = serializers.IntegerField(help_text="ISBNs that ISBNdb was asked for and knows.")
    enriched = serializers.IntegerField(help_text="Found books that are stored: created, updated or unchanged.")
    created = serializers.IntegerField(help_text="New editions.")
    updated = serializers.IntegerField(help_text="Changed editions.")
    already_fresh = serializers.IntegerField(help_text="ISBNs with a fresh stored edition. They cost no call.")
    just_asked = serializers.IntegerField(
        help_text="With `refresh`: ISBNs that ISBNdb was not asked for again, because it has answered within the last "
        "minute. They cost no call, and are counted as `already_fresh` or `not_found`."
    )
    not_found = serializers.IntegerField(help_text="ISBNs that ISBNdb does not know, now or when it was last asked.")
    failed = serializers.IntegerField(help_text="ISBNs without a result; `errors` says why.")
    invalid = InvalidIsbnSerializer(many=True)
    not_found_isbns = serializers.ListField(child=serializers.CharField())
    errors = FailedIsbnSerializer(many=True)  # type: ignore[assignment]  # a field of that name
    api_calls = serializers.IntegerField(help_text="Calls that this request spent, including retries.")


class AuthorSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()


class WorkSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    title = serializers.CharField()


EXAMPLE_BOOK = (
    {name: field.example for name, field in FIELDS.items()}
    | {"work": {"id": 2, "title": "Project Hail Mary"}, "authors": [{"id": 1, "name": "Andy Weir"}]}
    | dict.fromkeys(TIMES, "2026-05-05T11:57:03.120000Z")
)


@example(EXAMPLE_BOOK)
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


class BookItemSerializer(serializers.Serializer[Any]):
    """An ISBN with its book, or why it has none. A repeated ISBN has the same answer each time."""

    input = serializers.CharField(help_text="The value as it was sent, or the part of it that is one ISBN.")
    isbn13 = serializers.CharField(allow_null=True, help_text="null: the value is not an ISBN.")
    state = serializers.ChoiceField(
        BOOK_STATES,
        help_text="`queued`: it waits in the queue. `unknown`: ISBNdb did not know it when it was last asked. "
        "`not_asked`: ISBNdb was not asked for it, or has not answered.",
    )
    reason = serializers.CharField(help_text="Why it is invalid, or why a job has failed to get it; otherwise empty.")
    suggestion = serializers.CharField(allow_null=True, help_text="What was probably meant by an invalid value.")
    asked_at = serializers.DateTimeField(allow_null=True, help_text="When ISBNdb last did not know it.")
    book = EditionSerializer(allow_null=True)


@example(
    {
        "requested": 3,
        "valid": 2,
        "duplicates": 0,
        "found": 1,
        "enriched": 1,
        "created": 1,
        "updated": 0,
        "already_fresh": 1,
        "just_asked": 0,
        "not_found": 0,
        "failed": 0,
        "invalid": [{"isbn": "9780593135205", "reason": "wrong check digit"}],
        "not_found_isbns": [],
        "ask_again_at": {},
        "notes": [],
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
    items = IsbnItemSerializer(many=True, required=False, help_text='Only with `"return": "items"`, in your order.')
    books = BookItemSerializer(
        many=True,
        required=False,
        allow_null=True,
        help_text='Only with `"return": "books"`, in your order. null: the database could not be read.',
    )
    notes = NOTES
