import json
import string
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichment.books import cleaning
from enrichment.books.decoding import BadBook, UndecodableAnswer, decode_books
from enrichment.books.fields import FIELDS, Book

DUNE = "9780441172719"
OTHER = "9780804429573"


def answer(*books: object, **members: object) -> bytes:
    return json.dumps({"data": books, **members}).encode()


def decode_one(book: object) -> Book:
    decoded = decode_books(answer(book), key="data")
    assert decoded.bad == []
    return decoded.books[0]


def test_a_tidy_book_keeps_all_fields() -> None:
    sent = {
        "title": "Dune",
        "title_long": "Dune: The Desert Planet",
        "isbn": "0441172717",
        "isbn13": DUNE,
        "isbn10": "0441172717",
        "dewey_decimal": ["813.54"],
        "binding": "Mass Market Paperback",
        "publisher": "Ace",
        "language": "en",
        "date_published": "1990-09-01",
        "edition": "1st",
        "pages": 535,
        "dimensions": "Height: 6.75 Inches",
        "overview": "A desert.",
        "image": "https://images.isbndb.com/covers/27/19/9780441172719.jpg",
        "image_original": "https://images.isbndb.com/original?Signature=1",
        "msrp": 9.99,
        "excerpt": "A beginning is the time",
        "synopsis": "<b>Arrakis.</b>",
        "authors": ["Frank Herbert"],
        "subjects": ["Fiction", "Science Fiction"],
        "other_isbns": [{"isbn": OTHER, "binding": "Hardcover"}],
        "never_seen_before": {"new": True},
    }
    book = decode_one(sent)
    assert json.loads(book.raw) == sent
    assert book == Book(
        isbn13=DUNE,
        isbn10="0441172717",
        title="Dune",
        title_long="Dune: The Desert Planet",
        authors=["Frank Herbert"],
        publisher="Ace",
        language="en",
        binding="Mass Market Paperback",
        edition="1st",
        pages=535,
        date_published=date(1990, 9, 1),
        date_precision="day",
        dewey_decimal=["813.54"],
        subjects=["Fiction", "Science Fiction"],
        msrp=Decimal("9.99"),
        image="https://images.isbndb.com/covers/27/19/9780441172719.jpg",
        dimensions="Height: 6.75 Inches",
        synopsis="<b>Arrakis.</b>",
        overview="A desert.",
        excerpt="A beginning is the time",
        other_isbns=[OTHER],
        raw=book.raw,
        content_hash=book.content_hash,
    )


@pytest.mark.parametrize(
    "names",
    [
        {"isbn13": DUNE},
        {"isbn13": None, "isbn": DUNE},
        {"isbn13": "", "isbn": "0441172717"},
        {"isbn13": "9780441172710", "isbn": None, "isbn10": "0-441-17271-7"},
        {"isbn13": 9780441172719},
        {"isbn13": 9780441172719.0},
        {"isbn10": 441172717},
    ],
)
def test_the_first_valid_isbn_is_used(names: dict[str, object]) -> None:
    book = decode_one(names)
    assert (book.isbn13, book.isbn10) == (DUNE, "0441172717")


def test_a_book_with_only_an_isbn_is_kept() -> None:
    book = decode_one({"isbn13": "9791032305690"})
    assert (book.isbn10, book.title, book.authors, book.pages, book.date_published) == ("", "", [], None, None)


def test_a_missing_title_is_replaced_by_the_long_title() -> None:
    assert decode_one({"isbn13": DUNE, "title": None, "title_long": "Dune: A Novel"}).title == "Dune: A Novel"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("&amp;amp; &#39;x&#x27;", "&amp; 'x'"),
        ("&nbsp;Caf&eacute; &nbsp;", "Café"),
        ("AT&T &copy &nothing; &; &#xD800;", "AT&T &copy &nothing; &; \ufffd"),
        ("\u200b \u00a0\ufeff", ""),
    ],
)
def test_entities_are_decoded_once_and_invisible_edges_are_trimmed(sent: str, expected: str) -> None:
    book = decode_one({"isbn13": DUNE, "title": sent, "authors": [sent], "publisher": sent, "synopsis": sent})
    assert (book.title, book.publisher, book.synopsis) == (expected,) * 3
    assert book.authors == [expected] * bool(expected)
    assert json.loads(book.raw)["title"] == sent


def test_a_synopsis_that_is_html_keeps_its_entities() -> None:
    assert decode_one({"isbn13": DUNE, "synopsis": "<p>1 &lt; 2 &amp; 3</p>"}).synopsis == "<p>1 &lt; 2 &amp; 3</p>"


def test_a_title_of_only_white_space_is_missing() -> None:
    assert decode_one({"isbn13": DUNE, "title": " &nbsp;\u200b", "title_long": "Dune"}).title == "Dune"
    assert decode_one({"isbn13": DUNE, "title": "\t", "title_long": "\u3000"}).title == ""


def test_bad_books_are_reported_and_the_other_books_are_kept() -> None:
    body = answer(
        {"isbn13": DUNE},
        None,
        "9780441172719",
        {"title": "no number"},
        {"isbn13": "9780441172710", "isbn": None},
        {"isbn13": OTHER},
    )
    decoded = decode_books(body, key="data")
    assert [book.isbn13 for book in decoded.books] == [DUNE, OTHER]
    assert decoded.bad == [
        BadBook(isbn=None, error="not an object"),
        BadBook(isbn=None, error="not an object"),
        BadBook(isbn=None, error="no valid ISBN"),
        BadBook(isbn="9780441172710", error="no valid ISBN"),
    ]


def test_a_too_deeply_nested_book_does_not_affect_other_books() -> None:
    deep = b"[" * 800 + rb'"\u0000"' + b"]" * 800
    body = b'{"data": [{"isbn13": "9780441172719", "new": %s}, {"isbn13": "9780804429573"}]}' % deep
    decoded = decode_books(body, key="data")
    assert OTHER in [book.isbn13 for book in decoded.books]
    assert len(decoded.books) + len(decoded.bad) == 2


def test_when_two_books_have_one_isbn_the_later_is_kept() -> None:
    decoded = decode_books(
        answer({"isbn13": DUNE, "title": "first"}, {"isbn10": "0441172717", "title": "then"}), key="data"
    )
    assert [book.title for book in decoded.books] == ["then"]


@pytest.mark.parametrize(
    ("total", "expected"), [(1, 1), ("1,234", 1234), (None, None), (-1, None), ("many", None), (2.0, 2), ([], None)]
)
def test_the_total_is_a_number_or_unknown(total: object, expected: int | None) -> None:
    assert decode_books(answer(total=total), key="data").total == expected


def test_an_answer_can_have_no_total() -> None:
    assert decode_books(b'{"books": []}', key="books").total is None


def test_the_list_can_have_another_name() -> None:
    assert decode_books(b'{"books": [{"isbn13": "9780441172719"}]}', key="books").books[0].isbn13 == DUNE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>502 Bad Gateway</body></html>",
        b'{"data": [{"isbn13": "9780441172719"}',
        b'{"data": null}',
        b'{"data": {}}',
        b'{"data": "none"}',
        b'{"errorMessage": "Not Found"}',
        b'{"books": []}',
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_an_answer_without_the_list_is_rejected(body: bytes) -> None:
    with pytest.raises(UndecodableAnswer):
        decode_books(body, key="data")


@pytest.mark.parametrize(
    "odd",
    [
        rb'"a\u0000b"',
        rb'"\ud800"',
        rb'"\ude00\ud83d"',
        b'"\xff\xfe"',
        b'"line\nbreak"',
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 5000,
        b'{"\\u0000": ["\\ud800"]}',
    ],
)
def test_characters_and_numbers_that_postgresql_cannot_store_are_removed(odd: bytes) -> None:
    books = b'{"isbn13": "9780441172719", "title": "Dune", "synopsis": %s}, {"isbn13": "9780804429573"}' % odd
    decoded = decode_books(b'\xef\xbb\xbf{"data": [%s]}' % books, key="data")
    assert [book.isbn13 for book in decoded.books] == [DUNE, OTHER]
    book = decoded.books[0]
    assert book.title == "Dune"
    json.loads(book.raw, parse_constant=pytest.fail)
    for text in (book.raw, book.synopsis):
        text.encode()
        assert "\0" not in text
        assert r"\u0000" not in text


def test_an_emoji_sent_as_two_surrogates_is_kept() -> None:
    assert decode_one({"isbn13": DUNE, "title": "\U0001f600"}).title == "\U0001f600"


def test_a_title_of_10_kb_is_kept() -> None:
    assert len(decode_one({"isbn13": DUNE, "title": "x" * 10_000}).title) == 10_000


def test_a_new_temporary_link_or_another_order_does_not_change_the_hash() -> None:
    one = decode_one({"isbn13": DUNE, "title": "Dune", "image_original": "https://a"})
    two = decode_one({"image_original": "https://b", "title": "Dune", "isbn13": DUNE})
    other = decode_one({"isbn13": DUNE, "title": "Dune!"})
    assert one.content_hash == two.content_hash != other.content_hash


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (["Frank Herbert", " Brian Herbert "], ["Frank Herbert", "Brian Herbert"]),
        ("Frank Herbert", ["Frank Herbert"]),
        (["Herbert, Frank", None, "", "Frank  Herbert", "FRANK HERBERT"], ["Herbert, Frank"]),
        (["Jo Nesbø", "Nesbo, Jo", "Jo Nesb&oslash; (Author)", "Nesbø, Jo, 1960-"], ["Jo Nesbø"]),
        ({"0": "Frank Herbert"}, ["Frank Herbert"]),
        ([{"name": "Frank Herbert"}, ["Frank Herbert"], True], []),
        (None, []),
        ([], []),
    ],
)
def test_each_author_is_listed_once(sent: object, expected: list[str]) -> None:
    assert cleaning.names(sent) == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (["Fiction", " Fiction", "Poetry", None, 813.54, 5], ["Fiction", "Poetry", "813.54", "5"]),
        ("Fiction", ["Fiction"]),
        (None, []),
    ],
)
def test_a_list_of_texts_is_cleaned(sent: object, expected: list[str]) -> None:
    assert cleaning.texts(sent) == expected


def test_other_isbns_are_valid_and_belong_to_other_books() -> None:
    sent: list[object] = [
        {"isbn": OTHER, "binding": "x"},
        "0804429571",
        "080442957X",
        {"isbn": "0441172717"},
        None,
        {"isbn": []},
    ]
    assert cleaning.isbns(sent, but=DUNE) == [OTHER]


@pytest.mark.parametrize(
    ("sent", "expected", "precision"),
    [
        ("2023-10-05", date(2023, 10, 5), "day"),
        ("2023-10-05T23:30:00+14:00", date(2023, 10, 5), "day"),
        ("2023-10-05 00:00:01", date(2023, 10, 5), "day"),
        ("2023/10/5", date(2023, 10, 5), "day"),
        ("20231005", date(2023, 10, 5), "day"),
        (20231005, date(2023, 10, 5), "day"),
        ("5th October 2023", date(2023, 10, 5), "day"),
        ("October 5, 2023", date(2023, 10, 5), "day"),
        ("Thu, 05 Oct 2023 00:00:00 GMT", date(2023, 10, 5), "day"),
        ("2023-10", date(2023, 10, 1), "month"),
        ("2023-01", date(2023, 1, 1), "month"),
        ("2023-12", date(2023, 12, 1), "month"),
        ("October 2023", date(2023, 10, 1), "month"),
        ("Sept. 2023", date(2023, 9, 1), "month"),
        ("2023-02-31", date(2023, 2, 1), "month"),
        ("2023-10-00", date(2023, 10, 1), "month"),
        ("2023", date(2023, 1, 1), "year"),
        (2023, date(2023, 1, 1), "year"),
        (2023.0, date(2023, 1, 1), "year"),
        ("2023-00-00", date(2023, 1, 1), "year"),
        ("2023-13-01", date(2023, 1, 1), "year"),
        ("1998-2003", date(1998, 1, 1), "year"),
        ("c1998", date(1998, 1, 1), "year"),
        ("[1998?]", date(1998, 1, 1), "year"),
        ("05/10/2023", date(2023, 1, 1), "year"),  # the day is ambiguous
        ("Spring 2023", date(2023, 1, 1), "year"),
        ("1400", date(1400, 1, 1), "year"),
        ("2100", date(2100, 1, 1), "year"),
        ("1399", None, ""),
        ("2101", None, ""),
        ("0000-00-00", None, ""),
        ("0001-01-01", None, ""),
        ("9999-12-31", None, ""),
        (1697932800, None, ""),
        ("To be announced", None, ""),
        ("", None, ""),
        (None, None, ""),
        (True, None, ""),
    ],
)
def test_the_plausible_part_of_a_date_is_kept(sent: object, expected: date | None, precision: str) -> None:
    assert cleaning.publication_date(sent) == (expected, precision)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (352, 352),
        (352.0, 352),
        ("352", 352),
        ("352.0", 352),
        ("352 pages", 352),
        ("352pp.", 352),
        ("xii, 352 p. ; 24 cm", 352),
        ("2 v. (352 p.)", 352),
        ("1,024", 1024),
        (352.5, None),
        ("2 volumes", None),
        (0, None),
        (-5, None),
        ("-5", None),
        (100_000, 100_000),
        (100_001, None),
        (10**9, None),
        pytest.param(10**5000, None, id="5001 digits"),
        ("", None),
        (None, None),
        (True, None),
        ([352], None),
    ],
)
def test_pages_are_a_plausible_number(sent: object, expected: int | None) -> None:
    assert cleaning.pages(sent) == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (12.99, "12.99"),
        (12.989999771118164, "12.99"),
        ("12.99", "12.99"),
        ("USD 12.99", "12.99"),
        ("£9", "9.00"),
        ("12,99", "12.99"),
        ("1,234.50", "1234.50"),
        ("1.234,50", "1234.50"),
        ("0.00", None),
        (0, None),
        (-1, None),
        ("NaN", None),
        (float("nan"), None),
        (float("inf"), None),
        (1e300, None),
        ("1.2.3", None),
        ("free", None),
        (None, None),
        ({}, None),
    ],
)
def test_a_price_has_two_decimal_places(sent: object, expected: str | None) -> None:
    assert cleaning.price(sent) == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize(
    "sent", ["javascript:alert(1)", "data:image/png;base64,xx", "cover.jpg", "http://a b", None, 5]
)
def test_an_image_is_an_http_address_or_empty(sent: object) -> None:
    assert cleaning.link(sent) == ""


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text()
    | st.sampled_from(["\0", "\ud800", "2023-02-31", "-1", "1e999", DUNE, ", ", "Jr., Jr."])
    | st.text(string.digits + "-., pPc"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
SENT = {name for field in FIELDS.values() for name in field.sent} | {"prices", "related", "image_original", "new"}
any_book: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"isbn13": st.just(DUNE)}, optional=dict.fromkeys(sorted(SENT - {"isbn13"}), json_values)
)


@given(any_book)
@pytest.mark.slow
def test_no_value_in_any_field_makes_a_book_bad(sent: dict[str, Any]) -> None:
    book = decode_one(sent)
    assert book.isbn13 == DUNE
    assert (book.date_published is None) == (book.date_precision == "")
    assert all(name == name.strip() != "" for name in book.authors)


@pytest.mark.slow
@given(st.binary() | st.builds(lambda value: json.dumps({"data": value}).encode(), json_values))
def test_any_answer_is_decoded_or_rejected(body: bytes) -> None:
    try:
        decoded = decode_books(body, key="data")
    except UndecodableAnswer:
        return
    assert decoded.books == []
