"""What a look-up of ISBNs takes and shows."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from alexandria.common.text import as_programs_read
from enrichment.isbn.reading import GivenIsbns
from enrichment.selectors.lookup import LookedUp
from enrichment.serializers.books import EXAMPLE_BOOK, NOTES, BookItemSerializer, IsbnListSerializer
from quota.serializers import example


class LookupRequestSerializer(IsbnListSerializer):
    source = None  # type: ignore[assignment]  # a look-up spends nothing, so no journal has its purpose
    returns = ()


@example(
    {
        "requested": 2,
        "valid": 1,
        "duplicates": 0,
        "by_state": {"stored": 1, "queued": 0, "unknown": 0, "not_asked": 0, "invalid": 1},
        "books": [
            {
                "input": "978-0-593-13520-4",
                "isbn13": "9780593135204",
                "state": "stored",
                "reason": "",
                "suggestion": None,
                "asked_at": None,
                "book": EXAMPLE_BOOK,
            },
            {
                "input": "439023483",
                "isbn13": None,
                "state": "invalid",
                "reason": "wrong length",
                "suggestion": "0439023483",
                "asked_at": None,
                "book": None,
            },
        ],
        "notes": [],
    },
    response_only=True,
)
class LookupAnswerSerializer(serializers.Serializer[Any]):
    """requested = valid + invalid + duplicates."""

    requested = serializers.IntegerField(help_text="Number of ISBNs sent, and of values that are none.")
    valid = serializers.IntegerField(help_text="Number of different valid ISBNs among them.")
    duplicates = serializers.IntegerField(help_text="ISBNs that came before in the list, in any form.")
    by_state = serializers.DictField(
        child=serializers.IntegerField(), help_text="How many are in each state. A repeated ISBN counts once."
    )
    books = BookItemSerializer(many=True, help_text="In your order.")
    notes = NOTES


class BookItemPageSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True, help_text="The next page. null: there is none.")
    previous = serializers.URLField(allow_null=True)
    results = BookItemSerializer(many=True, help_text="In the order of the list.")


def book_items(given: GivenIsbns, found: Mapping[str, LookedUp]) -> list[dict[str, Any]]:
    """The item of each entry, in order. `found` has all valid ISBNs."""
    return [
        book_item(
            entry.input,
            found[entry.isbn13] if entry.isbn13 else None,
            reason=entry.reason.value if entry.reason else "",
            suggestion=entry.suggestion,
        )
        for entry in given.entries
    ]


def book_item(given: str, found: LookedUp | None, *, reason: str = "", suggestion: str | None = None) -> dict[str, Any]:
    """What BookItemSerializer describes, in a tenth of the time. `found`: None for an invalid value."""
    asked_at = found.asked_at if found else None
    return {
        "input": given,
        "isbn13": found.isbn13 if found else None,
        "state": found.state.value if found else "invalid",
        "reason": reason,
        "suggestion": suggestion,
        "asked_at": as_programs_read(asked_at) if asked_at else None,
        "book": found.book if found else None,
    }
