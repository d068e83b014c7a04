"""Reads what is stored in ISBNdb's own form."""

from collections.abc import Collection
from dataclasses import dataclass

import msgspec
from django.db import connection
from django.db.models import Func, JSONField, TextField, Value
from django.db.models.functions import Cast

from enrichment.models import Author, Edition
from enrichment.selectors.stats import MAX_COUNTED, number_of_rows

# The link of `image_original` dies two hours after ISBNdb's answer. Where ISBNdb sent none, none is added.
_AS_SENT = Cast(
    Func(
        "raw",
        Value("{image_original}"),
        Value("null"),
        Value(False),  # noqa: FBT003 (an argument of PostgreSQL's function)
        function="jsonb_set",
        output_field=JSONField(),
    ),
    TextField(),
)
_NAMES = """
    WITH editions AS MATERIALIZED (SELECT publisher, subjects FROM enrichment_edition LIMIT %s)
    SELECT
        (SELECT count(DISTINCT publisher) FROM editions WHERE publisher <> ''),
        (SELECT count(DISTINCT subject) FROM editions, unnest(subjects) AS subject)"""


@dataclass(frozen=True)
class StoredCounts:
    """How many of each are stored. Publishers and subjects are counted in their spellings.

    Of a large store, `books` and `authors` are estimates (see selectors/stats.py), and `publishers` and `subjects` are
    those of MAX_COUNTED editions: to count those of a million takes four seconds.
    """

    books: int
    authors: int
    publishers: int
    subjects: int


def raw_books(isbns: Collection[str]) -> dict[str, msgspec.Raw]:
    """The JSON that ISBNdb sent of each stored edition, by ISBN-13, without its link that lives only for two hours."""
    found = Edition.objects.filter(isbn13__any_of=isbns).values_list("isbn13", _AS_SENT)
    return {isbn13: msgspec.Raw(sent) for isbn13, sent in found}


def stored_counts() -> StoredCounts:
    """Counts what is stored now."""
    with connection.cursor() as cursor:
        cursor.execute(_NAMES, [MAX_COUNTED])
        publishers, subjects = cursor.fetchone()
    (books, _), (authors, _) = number_of_rows(Edition.objects.all()), number_of_rows(Author.objects.all())
    return StoredCounts(books=books, authors=authors, publishers=publishers, subjects=subjects)
