"""Finding ISBNs in what people paste and upload."""

import csv
from pathlib import Path

import pytest

from alexandria.common.text import decode_text
from enrichment.isbn.input import read_values
from enrichment.isbn.parsing import parse_many
from tests.lists import folder_of, lists

DUNE, EMMA = "9780441172719", "9780804429573"


@pytest.mark.parametrize(
    "text",
    [
        f"{DUNE}\n{EMMA}\n",
        f"{DUNE}, {EMMA}",
        f"{DUNE} {EMMA}",
        f"978-0-441-17271-9\r\n\r\n {EMMA}",
        f"Title\tISBN\nDune\t{DUNE}\nEmma\t{EMMA}",
        f'ISBN;Title;Price\n="{DUNE}";"Dune; or not";12,99\n="{EMMA}";Emma;9,99',
        f"Dune | {DUNE} (pbk.)\nEmma | {EMMA} (hbk.)",
        f"id,isbn\n2000000001,{DUNE}\n2000000002,{EMMA}",
    ],
)
def test_isbns_are_found_in_any_column_and_with_any_delimiter(text: str) -> None:
    assert parse_many(read_values(text)).valid == [DUNE, EMMA]
    assert parse_many(read_values(text)).invalid == []


def test_both_columns_of_isbns_are_read_and_mistakes_in_them_are_kept() -> None:
    text = f"ISBN-10,ISBN-13,Year\n0441172717,{DUNE},1990\n,9780804429574,1991\n12345,{EMMA},1992\n0441172717,,1993"
    assert read_values(text) == ["0441172717", DUNE, "9780804429574", "12345", EMMA, "0441172717"]


def test_a_list_in_one_row_or_without_an_isbn_is_read_completely() -> None:
    assert read_values(f"{DUNE}, 9780804429574, 12") == [DUNE, "9780804429574", "12"]
    assert read_values("12,13\n14,15") == ["12", "13", "14", "15"]
    assert read_values("\n , \n") == []
    assert read_values('"9780441172719') == [DUNE]


@pytest.mark.parametrize("path", lists("bestsellers.csv"), ids=folder_of)
def test_the_isbn_column_of_a_real_file_is_read(path: Path) -> None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        wanted = [isbn for row in csv.DictReader(file) if (isbn := row["ISBN-13"].strip())]
    assert read_values(decode_text(path.read_bytes()).text) == wanted


def test_a_stray_quote_affects_only_its_line_in_a_long_file() -> None:
    lines = ['9780593135204;"Project Hail Mary', *["9780735211292;Atomic Habits"] * 10_000]
    assert read_values("\n".join(lines)).count("9780735211292") == 10_000
