"""A book as a MARC record: the fields that docs/exports.md names, and a file that other programs can read, whatever
ISBNdb sends. pymarc and yaz-marcdump read it back."""

import re
import shutil
import subprocess
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pymarc import MARCReader, Record, parse_xml_to_array

from enrichment.exports.formats import FORMATS
from enrichment.exports.languages import marc_language
from enrichment.exports.marc import CUT, MAX_FIELD, MAX_RECORD, marc21, plain, record
from enrichment.models import Edition
from tests.enrichment.exports.conftest import ISBN, unsaved

YAZ = shutil.which("yaz-marcdump")
HOSTILE = st.text(st.characters() | st.sampled_from("\x00\x1b\x1d\x1e\x1f\x98\ud800\ufffe\uffff\u2028<&>]'\"é中😀\n\t"))
LONG = st.tuples(HOSTILE, st.sampled_from([0, 1, 3_000])).map(lambda drawn: drawn[0] + "é😀" * drawn[1])
BOOKS = st.builds(
    unsaved,
    names=st.lists(HOSTILE, max_size=3).map(tuple),
    title=LONG,
    title_long=LONG,
    publisher=HOSTILE,
    language=HOSTILE,
    binding=HOSTILE,
    edition=HOSTILE,
    synopsis=LONG,
    excerpt=LONG,
    image=LONG,
    subjects=st.lists(LONG, max_size=12),
)


def read_marc(file: bytes) -> list[Record]:
    records = list(MARCReader(BytesIO(file)))
    assert None not in records
    return [each for each in records if each]


def read_xml(file: bytes) -> list[Record]:
    records: list[Record] = parse_xml_to_array(BytesIO(file), strict=True)
    return records


def values(found: Record) -> list[tuple[Any, ...]]:
    return [(field.tag, field.data, field._indicators, field.subfields) for field in found.fields]


def shown(edition: Edition) -> list[str]:
    return [str(field) for field in record(edition).fields]


def test_each_field_of_the_book_has_its_place() -> None:
    assert shown(unsaved()) == [
        f"=001  {ISBN}",
        "=003  Alexandria",
        "=005  20260501100000.0",
        r"=008  260501e20210504xx\||||||||||||||\||eng\d",
        rf"=020  \\$a{ISBN}$qHardcover$c28.99",
        r"=020  \\$a0593135202",
        r"=040  \\$aAlexandria$beng$cAlexandria",
        "=082  04$a813.6",
        r"=100  0\$aAndy Weir",
        "=245  10$aProject Hail Mary$bA Novel",
        r"=250  \\$a1st",
        r"=264  \1$bBallantine Books$c2021",
        r"=300  \\$a476 pages$cHeight: 9.5 inches",
        r"=520  \\$aA lone astronaut must save the earth… Or not.",
        r"=653  \\$aScience fiction",
        r"=653  \\$aAstronauts",
        r"=700  1\$aPorter, Ray",
        "=776  08$iOther form$z9780593135211",
        "=856  42$3Cover image$uhttps://images.isbndb.com/covers/52/04/9780593135204.jpg",
    ]
    [read] = read_marc(marc21(unsaved()))
    assert str(read.leader)[5:12] == "nam a22"
    assert str(read.leader)[17:] == "3u 4500"


def test_a_book_of_which_nothing_is_known_is_a_record() -> None:
    nothing = ("isbn10", "title", "title_long", "publisher", "language", "binding", "edition", "image", "dimensions")
    empty: dict[str, Any] = dict.fromkeys((*nothing, "synopsis", "date_precision"), "")
    empty |= {"pages": None, "date_published": None, "msrp": None, "names": ()}
    fields = shown(unsaved(**empty, dewey_decimal=[], subjects=[], other_isbns=[]))
    assert fields[3:] == [
        r"=008  260501nuuuuuuuuxx\||||||||||||||\||und\d",
        rf"=020  \\$a{ISBN}",
        r"=040  \\$aAlexandria$beng$cAlexandria",
        "=245  00$a[untitled]",
    ]


@pytest.mark.parametrize(
    ("title", "long_title", "language", "fields"),
    [
        ("The Martian", "", "en", ["=245  14$aThe Martian"]),
        ("The Martian", "the martian - A Novel", "en", ["=245  14$aThe Martian$bA Novel"]),
        ("Dune", "Dune (Chronicles, 1)", "en", ["=245  10$aDune", r"=246  3\$aDune (Chronicles, 1)"]),
        ("Dune: Book One", "Dune: Book One", "", ["=245  10$aDune$bBook One"]),
        ("L’Étranger", "L’Étranger", "French", ["=245  12$aL’Étranger"]),
        ("Die Verwandlung", "", "de_DE", ["=245  14$aDie Verwandlung"]),
        ("Die Hard", "", "en", ["=245  10$aDie Hard"]),
        ("The", "The", "en", ["=245  10$aThe"]),
        (": a beginning", "", "en", ["=245  10$a: a beginning"]),
    ],
)
def test_a_title_has_its_subtitle_and_says_where_its_order_begins(
    title: str, long_title: str, language: str, fields: list[str]
) -> None:
    found = shown(unsaved(title=title, title_long=long_title, language=language))
    assert [field for field in found if field.startswith("=24")] == fields


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("en", "eng"),
        ("en_US", "eng"),
        ("EN-gb", "eng"),
        ("English", "eng"),
        ("fra", "fre"),
        ("fre", "fre"),
        (" Castilian ", "spa"),
        ("zh-Hans", "chi"),
        ("Elvish", "und"),
        ("", "und"),
    ],
)
def test_a_language_has_the_code_of_marc(language: str, code: str) -> None:
    assert marc_language(language) == code


def test_a_language_without_a_code_is_a_note() -> None:
    assert r"=546  \\$aElvish" in shown(unsaved(language="Elvish"))


@pytest.mark.parametrize(("precision", "dates"), [("day", "e20210504"), ("month", "e202105  "), ("year", "s2021    ")])
def test_a_date_has_only_what_is_known(precision: str, dates: str) -> None:
    fixed = record(unsaved(date_published=date(2021, 5, 4), date_precision=precision))["008"].data
    assert fixed
    assert fixed[6:15] == dates


@pytest.mark.parametrize(
    ("binding", "kind", "form", "biography"),
    [("Paperback", "a", "|", "|"), ("Kindle Edition", "a", "o", "|"), ("Audio CD", "i", "|", " ")],
)
def test_a_binding_says_what_kind_of_thing_it_is(binding: str, kind: str, form: str, biography: str) -> None:
    found = record(unsaved(binding=binding))
    fixed = found["008"].data
    assert fixed
    assert (str(found.leader)[6], fixed[23], fixed[34], len(fixed)) == (kind, form, biography, 40)


@pytest.mark.slow
# Without the search for a smaller example, which takes minutes with texts as long as these.
@settings(max_examples=30, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(BOOKS, min_size=1, max_size=3))
def test_whatever_isbndb_sends_both_files_can_be_read_and_have_the_same_records(books: list[Edition]) -> None:
    wanted = [values(record(book)) for book in books]
    file = b"".join(FORMATS["marc"].file(books))
    assert [values(found) for found in read_marc(file)] == wanted
    assert [values(found) for found in read_xml(b"".join(FORMATS["marcxml"].file(books)))] == wanted
    for part in file.split(b"\x1d")[:-1]:
        assert int(part[:5]) == len(part) + 1 <= MAX_RECORD
        assert all(len(field) < MAX_FIELD for field in part.split(b"\x1e")[1:])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (" a\r\n\t\u2028 b ", "a b"),
        ("a\x1d\x1eb\x00\x98c\x9c", "abc"),
        ("\ud800a\ufffe\uffff", "a"),
        ("<é 😀>", "<é 😀>"),
    ],
)
def test_a_text_is_one_line_without_what_breaks_a_file(text: str, line: str) -> None:
    assert plain(text) == line


def test_a_long_text_is_cut_and_the_least_important_is_left_out() -> None:
    found = record(unsaved(synopsis="é" * 9_000, subjects=["x" * 9_000] * 12, other_isbns=[ISBN] * 9))
    note = found["520"]["a"]
    assert note.endswith(f"é{CUT}")
    assert len(note.encode()) > MAX_FIELD - 10
    assert len(found.get_fields("653")) == 9
    assert len(found.get_fields("776")) == 9


@pytest.mark.skipif(YAZ is None, reason="yaz-marcdump is missing: `make yaz` installs it")
def test_yaz_marcdump_has_no_complaint_and_makes_the_one_file_from_the_other(tmp_path: Path) -> None:
    books = [
        unsaved(),
        unsaved(title="日本語\x1e\x1d<&>", names=(), synopsis="é😀" * 40_000, image="", binding="Audio CD"),
        unsaved(subjects=["x" * 9_000] * 12, other_isbns=[ISBN] * 4_000),
    ]
    (tmp_path / "books.mrc").write_bytes(b"".join(FORMATS["marc"].file(books)))
    (tmp_path / "books.xml").write_bytes(b"".join(FORMATS["marcxml"].file(books)))

    def yaz(*options: str) -> bytes:
        command = [str(YAZ), "-f", "utf-8", "-t", "utf-8", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert done.stderr == b""
        return done.stdout

    lines = yaz("-i", "marc", "-o", "line", "books.mrc")
    assert lines.count(b"\n001 ") == len(books)
    assert re.findall(rb"^\(.*", lines, re.MULTILINE) == []  # the line format has complaints in brackets
    assert yaz("-i", "marcxml", "-o", "marc", "books.xml") == (tmp_path / "books.mrc").read_bytes()
