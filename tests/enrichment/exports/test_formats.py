"""A book as cells and as a line of JSON: complete, and safe in a spreadsheet."""

import csv
import io
import json

from rest_framework.test import APIClient

from enrichment.exports.formats import COLUMNS, FORMATS, ndjson
from enrichment.models import Edition
from tests.enrichment.exports.conftest import ISBN, unsaved


def row_of(book: Edition) -> dict[str, str]:
    line = FORMATS["csv"].book(book).decode()
    return dict(zip(COLUMNS, next(csv.reader(io.StringIO(line, newline=""))), strict=True))


def test_a_line_of_json_has_what_the_api_shows(api_without_key_check: APIClient, book: Edition) -> None:
    line = ndjson(book)
    assert line.index(b"\n") == len(line) - 1
    assert json.loads(line) == api_without_key_check.get(f"/api/books/{ISBN}").json()


def test_a_row_has_a_cell_for_each_column_and_lists_in_one_cell(book: Edition) -> None:
    row = row_of(book)
    assert (row["isbn13"], row["title"], row["work_title"]) == (ISBN, "Project Hail Mary", "Project Hail Mary")
    assert row["work_id"] == str(book.work_id)
    assert row["authors"] == "Andy Weir; Porter, Ray"
    assert row["subjects"] == "Science fiction; Astronauts"
    assert (row["pages"], row["msrp"], row["date_published"]) == ("476", "28.99", "2021-05-04")
    assert (row["overview"], row["updated_at"]) == ("", "2026-05-01T10:00:00Z")


def test_what_is_unknown_is_an_empty_cell_and_no_text_is_a_formula() -> None:
    book = unsaved(
        title="=1+1", publisher="@work", subjects=["+x", "y"], pages=None, date_published=None, date_precision=""
    )
    row = row_of(book)
    assert (row["title"], row["publisher"], row["subjects"]) == ("'=1+1", "'@work", "'+x; y")
    assert (row["pages"], row["date_published"], row["date_precision"]) == ("", "", "")
