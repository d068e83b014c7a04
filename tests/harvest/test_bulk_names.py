"""Reading the names of authors from files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichment.books.match_keys import name_key
from harvest.bulk.exceptions import NamesUnreadable
from harvest.bulk.names import read_names
from tests.lists import OUR_FOLDER, folder_of, lists

DUNE = ["Frank Herbert", "Ursula K. Le Guin"]


@pytest.mark.parametrize(
    "text",
    [
        "Frank Herbert\nUrsula K. Le Guin\n",
        "\n\n  Frank   Herbert  \r\n\r\nUrsula K. Le Guin",
        "author_name\nFrank Herbert\nUrsula K. Le Guin\n",
        "Author Name\n\nFrank Herbert\n\nUrsula K. Le Guin\n",
        'NAME\n"Frank Herbert"\n"Ursula K. Le Guin"\n',
        "id,author,born\n1,Frank Herbert,1920\n2,Ursula K. Le Guin,1929\n",
        'name;"author-name"\nx;Frank Herbert\ny;Ursula K. Le Guin\nz\n',
        "id,full_name\n1,Frank Herbert\n2,Ursula K. Le Guin\n",
        "ID, Author\n1,Frank Herbert\n2,Ursula K. Le Guin\n",
        "Frank Herbert,author\nUrsula K. Le Guin,author\n",
        "Frank Herbert;author\nUrsula K. Le Guin;translator\n",
        "id\tauthors\n1\tFrank Herbert\n2\tUrsula K. Le Guin\n",
        '"notes, long","name"\n"two\nlines","Frank Herbert"\n,"Ursula K. Le Guin"\n',
        "Frank Herbert,1920\nUrsula K. Le Guin,1929\n",
        "Frank Herbert;Dune, 1965\nUrsula K. Le Guin\tx\n",
        '"Frank Herbert", 1920\nUrsula K. Le Guin,\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_are_read_from_tables_and_lists_of_any_kind(text: str, encoding: str) -> None:
    found = read_names(text.encode(encoding))
    assert found.names == DUNE
    assert (found.rejected, found.duplicates, found.encoding) == ([], 0, "")


def test_an_inverted_name_keeps_its_comma_and_counts_once() -> None:
    found = read_names(b"Herbert, Frank\nFrank Herbert\nfrank  herbert\nKing, Jr.\n")
    assert found.names == ["Herbert, Frank", "King, Jr."]
    assert found.duplicates == 2
    assert read_names(b"Frank Herbert, author\nA. Writer\n").names == ["Frank Herbert, author", "A. Writer"]
    assert read_names(b"name\nHerbert, Frank\n").names == ["Herbert, Frank"]
    assert read_names(b'name,born\n"Herbert, Frank",1920\n').names == ["Herbert, Frank"]


def test_an_old_encoding_is_read_and_reported() -> None:
    found = read_names("Émile Zola\nCharlotte Brontë’s\n".encode("cp1252"))
    assert found.names == ["Émile Zola", "Charlotte Brontë’s"]
    assert found.encoding == "Windows-1252"


def test_a_text_that_is_not_a_name_is_reported_with_its_line() -> None:
    found = read_names(b"id,name\n1,Frank Herbert\n2,1234\n\n3,\n4,---\n" + b"5," + b"x" * 151 + b"\n6,a\0b\n")
    assert found.names == ["Frank Herbert"]
    assert [(bad.line, bad.reason) for bad in found.rejected] == [
        (3, "no letter"),
        (6, "no letter"),
        (7, "longer than 150 characters"),
        (8, "control or undefined characters"),
    ]
    assert [bad.line for bad in read_names(b"\nname\nA. Writer\n12\n").rejected] == [4]
    assert [bad.line for bad in read_names(b"\nA. Writer\n12\n").rejected] == [3]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"name\n", b"123\n", b'name,x\nFrank Herbert,y\n"Lost,y\n'])
def test_a_list_without_names_or_with_a_quote_that_never_closes_is_refused(content: bytes) -> None:
    with pytest.raises(NamesUnreadable):
        read_names(content)


@given(st.binary(max_size=300))
def test_any_bytes_give_distinct_usable_names_or_are_refused(content: bytes) -> None:
    try:
        names = read_names(content).names
    except NamesUnreadable:
        return
    assert len({name_key(name) for name in names}) == len(names) > 0
    for name in names:
        assert 1 <= len(name) <= 150
        assert name == " ".join(name.split())
        assert "\0" not in name


@pytest.mark.slow
@given(st.lists(st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=150), min_size=1, max_size=20))
def test_one_name_per_line_is_read_in_order(written: list[str]) -> None:
    lines = ["A. Writer", *written]  # so that no line is a header
    found = read_names("\n".join(lines).encode())
    kept = list({name_key(name): name for name in reversed(found.names)}.values())[::-1]
    assert found.names == kept
    assert len(found.names) + found.duplicates + len(found.rejected) == len(lines)
    assert read_names("\n".join(found.names).encode()).key == found.key


@pytest.mark.parametrize("path", lists("authors.csv"), ids=folder_of)
def test_a_long_list_is_read_without_errors(path: Path) -> None:
    found = read_names(path.read_bytes())
    first = ["Tessa Bailey", "Karen Rose"] if path.parent == OUR_FOLDER else ["Sarah J. Maas", "Colleen Hoover"]
    assert found.names[:2] == first
    assert (found.rejected, found.encoding) == ([], "")
    assert len(found.names) + found.duplicates == len([line for line in path.read_text().splitlines() if line]) - 1


def test_our_list_names_some_authors_twice_and_keeps_its_quoted_names() -> None:
    found = read_names((OUR_FOLDER / "authors.csv").read_bytes())
    assert (len(found.names), found.duplicates) == (106, 3)
    assert {"Moriarty, Liane", "Brenda Novak", "Mitch Albom"} <= set(found.names)
