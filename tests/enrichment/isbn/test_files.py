"""Finding ISBNs in what people paste and upload: text, tables with any delimiter, workbooks, exports of programs."""

import csv
import io
import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from openpyxl import Workbook

from enrichment.isbn import files, reading, workbooks
from enrichment.isbn.files import FileUnreadable, read_file, read_text
from enrichment.isbn.lost import Lost
from enrichment.isbn.parsing import Reason
from enrichment.isbn.reading import GivenIsbns, read
from enrichment.isbn.workbooks import check_size
from tests.lists import folder_of, lists

DUNE, EMMA = "9780441172719", "9780804429573"
EXPORTS = Path(__file__).parent / "files"


def isbns_of(content: str | bytes) -> GivenIsbns:
    data = content if isinstance(content, bytes) else content.encode()
    return read(read_file(data).values, is_spreadsheet=True)


def workbook(*sheets: list[list[object]]) -> bytes:
    book = Workbook()
    del book["Sheet"]
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


A_WORKBOOK = workbook([["ISBN"], [DUNE]])


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
        f"Title;Year;ISBN\nDune, a novel, the first;1965;{DUNE}\nEmma, or not;1815;{EMMA}",
        f'Title,ISBN\n"Dune; a novel; the first",{DUNE}\n"Emma; or not; at all",{EMMA}',
        f"0;1;2\n{DUNE};Dune;\n{EMMA};Emma;",
        f"sep=;\r\nISBN;Title\r\n{DUNE};Dune, a novel\r\n{EMMA};Emma\r\n",
        f"My books\n\nTitle,Author,ISBN\nDune,Frank Herbert,{DUNE}\nEmma,Jane Austen,{EMMA}",
        f"ISBN13\n{DUNE}\n{EMMA}",
        f'title,note,isbn\nDune,"in\ntwo lines",{DUNE}\nEmma,,{EMMA}',
        f"I own Dune ({DUNE}), and\nEmma, which is 978-0-8044-2957-3.",
        "Titel;ISBN\nDune;441172717\nEmma;80442957X",
        f"[{DUNE}]\n[]\n-\n{EMMA}",
    ],
)
def test_isbns_are_found_in_any_column_and_with_any_delimiter(text: str) -> None:
    assert isbns_of(text).valid == [DUNE, EMMA]
    assert isbns_of(text).invalid == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_a_file_is_read_in_any_usual_encoding(encoding: str) -> None:
    text = f"Título;ISBN\nDune – año;{DUNE}\nEmma;{EMMA}\n"
    assert isbns_of(text.encode(encoding)).valid == [DUNE, EMMA]
    guessed = ["The file is not UTF-8. It was read as Windows-1252."] if encoding == "cp1252" else []
    assert [note for note in read_file(text.encode(encoding)).notes if "UTF-16" not in note] == guessed


def test_both_columns_of_isbns_are_read_and_mistakes_in_them_are_kept() -> None:
    text = f"ISBN-10,ISBN-13,Year\n0441172717,{DUNE},1990\n,9780804429574,1991\n12345,{EMMA},1992\n0441172717,,1993"
    assert read_text(text).values == ["0441172717", DUNE, "9780804429574", "12345", EMMA, "0441172717"]


def test_a_book_that_only_the_column_isbn_knows_is_not_lost() -> None:
    text = f"ISBN,ISBN13\n,{EMMA}\n,\n,\n0441172717,\n,9780593135204"
    assert isbns_of(text).valid == [EMMA, DUNE, "9780593135204"]


def test_a_list_in_one_row_or_without_an_isbn_is_read_completely() -> None:
    assert read_text(f"{DUNE}, 9780804429574, 12").values == [DUNE, "9780804429574", "12"]
    assert read_text("12,13\n14,15").values == ["12", "13", "14", "15"]
    assert read_text("\n , \n").values == []
    assert read(read_text('"9780441172719').values).valid == [DUNE]


def test_a_stray_quote_affects_only_its_line() -> None:
    for many in (10, 10_000):  # in a long file, the csv module gives up by itself
        lines = ['9780593135204;"Project Hail Mary', *["9780735211292;Atomic Habits"] * many]
        assert read_text("\n".join(lines)).values == ["9780593135204", *["9780735211292"] * many]


def test_a_delimiter_too_many_does_not_hide_the_isbn_of_its_line() -> None:
    text = f"Title,Author,ISBN,Year\nDune,Frank Herbert,{DUNE},1965\nEmma, or not,Jane Austen,{EMMA},1815"
    assert DUNE in isbns_of(text).valid
    assert EMMA in isbns_of(text).valid


def test_what_a_spreadsheet_has_destroyed_is_told_once_for_the_column() -> None:
    isbns = ["441172717", *[""] * 97, "80442957X"]
    rows = "\n".join(f"Book {at},9.78044E+12,{isbn}" for at, isbn in enumerate(isbns)) + "\nBook 99,9780440000000,"
    found = read_file(f"Title,ISBN13,ISBN\n{rows}".encode())
    assert read(found.values, is_spreadsheet=True).valid == [DUNE, EMMA]
    assert found.values == ["441172717", "80442957X"]
    [note] = found.notes
    assert "100 cells of the column 'ISBN13' lost digits" in note
    assert "9.78044E+12. Rows without another ISBN: 98." in note


BOOK_HEADS = "isbn13,isbn10,title,image,other_isbns,work_id,work_title"
BOOK = f"{EMMA},080442957X,Emma,https://images.example/{DUNE}.jpg,9780593135204; 9780735211292,7,Emma"
LOOKED_UP = f"""input,state,reason,suggestion,asked_at,{BOOK_HEADS}
x (pbk.),stored,,,,{BOOK}
9780441172718,invalid,wrong check digit,{DUNE},,,,,,,,"""
ITEMS = f"""input,isbn13,state,reason,suggestion
9780441172718,,invalid,wrong check digit,{DUNE}
'=1+2,,invalid,not an ISBN,
9.78E+12,,invalid,digits lost in a spreadsheet,
080442957X,{EMMA},duplicate,,"""
WHY = f"""position;isbn13;given;state;reason;suggestion;title
1;;9780441172718;invalid;wrong check digit;{DUNE};
2;{EMMA};;not_found;;;{DUNE}"""


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (f"{BOOK_HEADS}\n{BOOK}\n{BOOK}", [EMMA, EMMA]),
        (f"{BOOK_HEADS}\n9.7808E+12,80442957X,Emma,,,7,Emma\n9.7808E+12,,Emma,,,7,Emma", ["80442957X"]),
        (LOOKED_UP, [EMMA, "9780441172718"]),
        (ITEMS, ["9780441172718", "=1+2", "9.78E+12", EMMA]),
        (WHY, ["9780441172718", EMMA]),
    ],
    ids=["books", "books through Excel", "look-up", "items", "why"],
)
def test_a_file_of_our_own_has_one_value_in_each_row_and_no_suggestion_is_taken(text: str, values: list[str]) -> None:
    rows: list[list[object]] = [[*row] for row in csv.reader(io.StringIO(text), delimiter=";" if text == WHY else ",")]
    for data in (text.encode("utf-8-sig"), workbook(rows)):
        found = read_file(data)
        assert (found.program, found.notes[0]) == ("Alexandria", "This is an export of Alexandria.")
        assert found.values == values
        assert ["lost digits" in note for note in found.notes[1:]] == [True] * ("9.7808E" in text)


@pytest.mark.parametrize("head", ["suggestion", "Suggested ISBN", "other_isbns", "Other ISBN-13s", "Related ISBNs"])
@pytest.mark.parametrize("isbn_head", ["ISBN", "Number"])
def test_a_column_of_other_isbns_is_not_read_and_a_note_tells_it(head: str, isbn_head: str) -> None:
    found = read_file(f"{isbn_head},{head}\n{DUNE},{EMMA}\n{DUNE},{EMMA}\n,{EMMA}".encode())
    assert found.values == [DUNE, DUNE]
    assert found.notes == [f"The column {head!r} was not read. Its ISBNs are not those of the list."]


@pytest.mark.parametrize("heads", ["Title,ISBN,Cover\n", "Title,Number,Cover\n", ""])
def test_the_web_addresses_of_a_table_have_no_isbns(heads: str) -> None:
    rows = f"Dune,{DUNE},https://img.example/{EMMA}.jpg\nDune,{DUNE},see www.img.example/{EMMA} \n"
    assert read_text(f"{heads}{rows}Dune,{DUNE},HTTP://img.example/{EMMA}, too many").values == [DUNE] * 3


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("hello world\nnonsense", ["hello world", "nonsense"]),
        ("The Hobbit\nDune", ["The Hobbit", "Dune"]),
        (f"ISBN {DUNE}\nISBN {EMMA}", [f"ISBN {DUNE}", f"ISBN {EMMA}"]),
        (f"No ISBN\n{DUNE}", ["No ISBN", DUNE]),
        *(
            (f"{head}\n{DUNE}\nx", [DUNE, "x"])
            for head in ("ISBN", "isbn13:", '"EAN / ISBN-13"', "eISBN", "ISBN-Nummer")
        ),
    ],
)
def test_the_first_line_of_a_list_is_a_value_unless_it_says_that_isbns_follow(text: str, values: list[str]) -> None:
    assert read_text(text).values == values
    assert read_file(workbook([[line.strip('"')] for line in text.splitlines()])).values == values


@pytest.mark.parametrize(("lost", "between"), [("9.78E+12", "\n"), ("9.78E+12", "; "), ("9,78E+12", "\n")])
def test_in_a_text_without_columns_what_a_spreadsheet_has_destroyed_is_invalid_too(lost: str, between: str) -> None:
    text = f"The Hobbit\n{lost}{between}{DUNE}\nDune"
    found = read_text(text)
    given = read(found.values, is_spreadsheet=True)
    assert [(entry.input, entry.reason) for entry in given.invalid] == [
        ("The Hobbit", Reason.NOT_AN_ISBN),
        (lost, Reason.DIGITS_LOST),
        ("Dune", Reason.NOT_AN_ISBN),
    ]
    assert given.valid == [DUNE]
    [note] = found.notes
    assert note.startswith(f"1 value lost digits, because a spreadsheet turned ISBNs into numbers like {lost}. Export")


def test_a_workbook_is_read_with_its_numbers_and_all_its_sheets() -> None:
    data = workbook(
        [["Title", "ISBN", "Pages"], ["Dune", 9780441172719, 412], ["Emma", 80442957, None], ["?", "80442957X", 1.5]],
        [["ISBN-10"], [593135202.0], ["-"], [None]],
    )
    found = read(read_file(data).values, is_spreadsheet=True)
    assert found.valid == [DUNE, EMMA, "9780593135204"]
    assert [entry.input for entry in found.invalid] == ["80442957"]


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def parts_of_a_workbook() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(A_WORKBOOK)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_parts(**parts: bytes) -> bytes:
    """A workbook with one ISBN, in which these parts are others."""
    return zipped(parts_of_a_workbook() | parts)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xd0\xcf\x11\xe0 an old workbook", "old Excel"),
        (b"PK\x03\x04 no archive", "not an Excel workbook"),
        (zipped({"readme": b"hello"}), "not an Excel workbook"),
        (workbook([["ISBN"], [DUNE]])[:-200], "not an Excel workbook"),
        (zipped({"readme": b"hello"}, zipfile.ZIP_LZMA), "not an Excel workbook"),
        (zipped({"xl/sheet": bytes(workbooks.MAX_UNPACKED_BYTES + 1)}), "unpacks to more than 50 MiB"),
        (zipped({"xl/sharedStrings.xml": b"<si/>" * 1_000_001}), "too many cells and texts"),
        (zipped({"one": b"<a/>" * 600_000, "two": b"<a/>" * 600_000}), "too many cells and texts"),
    ],
    ids=[
        "xls",
        "no archive",
        "another archive",
        "cut off",
        "other compression",
        "bomb",
        "many texts",
        "many tags in two members",
    ],
)
def test_a_file_that_is_no_workbook_or_unpacks_to_too_much_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(FileUnreadable, match=why):
        read_file(data)


def test_a_workbook_has_a_maximum_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "MAX_CELLS", 4)
    assert isbns_of(workbook([["ISBN"], [DUNE]], [[None, EMMA]])).valid == [DUNE, EMMA]
    with pytest.raises(FileUnreadable, match="more than 4 cells"):
        read_file(workbook([["ISBN"], [DUNE]], [[None, EMMA], [EMMA]]))


@pytest.mark.slow
def test_a_workbook_that_takes_too_much_memory_is_refused_and_takes_none_of_this_process() -> None:
    many = " ".join(f"a{at}=''" for at in range(1_500_000))
    data = with_parts(**{"xl/styles.xml": f"<styleSheet {many}/>".encode()})
    before = highest_memory(reset=True)
    with pytest.raises(FileUnreadable, match="too much time or memory"):
        read_file(data)
    assert highest_memory() - before < 30_000


@pytest.mark.slow
def test_a_workbook_that_shows_one_long_text_in_many_cells_is_refused_and_takes_little_memory() -> None:
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    texts = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'.encode()
    kinds = parts_of_a_workbook()["[Content_Types].xml"].replace(b"</Types>", texts)
    rows = ("<row>" + "<c t='s'><v>0</v></c>" * 100 + "</row>") * 210
    data = with_parts(
        **{
            "[Content_Types].xml": kinds,
            "xl/worksheets/sheet1.xml": f"<worksheet xmlns='{main}'><sheetData>{rows}</sheetData></worksheet>".encode(),
            "xl/sharedStrings.xml": f"<sst xmlns='{main}'><si><t>{'x' * 20_000}</t></si></sst>".encode(),
        }
    )
    assert len(data) < 10_000
    before = highest_memory(reset=True)
    with pytest.raises(FileUnreadable, match="too much text"):
        read_file(data)
    assert highest_memory() - before < 300_000


def highest_memory(*, reset: bool = False) -> int:
    """Kilobytes of this process at most, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


@hypothesis_settings(max_examples=500)
@given(at=st.integers(0, len(A_WORKBOOK) - 1), byte=st.integers(0, 255), many=st.integers(1, 4))
def test_a_workbook_with_damaged_bytes_is_refused_or_left_to_the_reader(at: int, byte: int, many: int) -> None:
    data = bytearray(A_WORKBOOK)
    data[at : at + many] = bytes([byte] * many)
    with suppress(FileUnreadable):
        check_size(bytes(data))


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", ["xl/workbook.xml", "xl/styles.xml", "xl/worksheets/sheet1.xml", "[Content_Types].xml"]
)
@pytest.mark.parametrize(
    "content", [b"", b"<a/>", b"<worksheet><sheetData><row><c r='?'/></row></sheetData></worksheet>"]
)
def test_a_workbook_with_a_damaged_part_is_read_or_refused(part: str, content: bytes) -> None:
    with suppress(FileUnreadable):
        assert read_file(with_parts(**{part: content})).values in ([], [DUNE])


def test_numbers_without_letters_are_taken_without_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "suggest", None)  # to guess takes most of the time for 100,000 numbers
    assert read_file(b"12,1234567890,55\n34,2345678901,66\n").values == [
        "12",
        "1234567890",
        "55",
        "34",
        "2345678901",
        "66",
    ]


@pytest.mark.parametrize("path", lists("bestsellers.csv"), ids=folder_of)
def test_the_isbn_column_of_a_real_file_is_read(path: Path) -> None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        wanted = [isbn for row in csv.DictReader(file) if (isbn := row["ISBN-13"].strip())]
    found = read_file(path.read_bytes())
    assert found.values == [isbn for isbn in wanted if "E+" not in isbn]
    lost = len(wanted) - len(found.values)
    assert [note.split(" cell")[0] for note in found.notes] == ([str(lost)] if lost else [])


def independently(rows: Any) -> tuple[set[str], set[str]]:
    """The ISBNs of the cells of an export, and the other cells that are not empty, without our reader."""
    good: set[str] = set()
    other: set[str] = set()
    for cell in rows:
        for written in filter(None, cell.strip('="[] ').split(", ")):
            number = written.zfill(10)
            body = f"978{number[:9]}" if len(number) == 10 else number[:12]
            if len(body) != 12 or not body.isdecimal():
                other.add(cell)
                continue
            check13 = -sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(body)) % 10
            check10 = "0123456789X"[sum(int(digit) * at for at, digit in enumerate(number[:9], 1)) % 11]
            right = number[-1] == (check10 if len(number) == 10 else str(check13))
            (good if right else other).add(f"{body}{check13}" if right else cell)
    return good, other


COLUMNS = {
    "goodreads.csv": ("Goodreads", ["ISBN", "ISBN13"]),
    "goodreads-through-excel.csv": ("Goodreads", ["ISBN", "ISBN13"]),
    "storygraph.csv": ("StoryGraph", ["ISBN/UID"]),
    "librarything.tsv": ("LibraryThing", ["ISBN", "ISBNs"]),
    "bookwyrm.csv": ("BookWyrm", ["isbn_10", "isbn_13"]),
    "libib.csv": ("Libib", ["ean_isbn13", "upc_isbn10"]),
    "calibre.csv": ("Calibre", ["isbn", "identifiers"]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_exports_of_other_programs_are_recognised_and_nothing_in_them_is_lost(name: str) -> None:
    program, columns = COLUMNS[name]
    path = EXPORTS / name
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if name.endswith("tsv") else ","))
    cells = [row[column] for row in rows for column in columns if column != "identifiers"]
    cells += [pair[5:] for row in rows for pair in (row.get("identifiers") or "").split(",") if pair[:5] == "isbn:"]
    good, other = independently(cells)
    found = read_file(path.read_bytes())
    given = read(found.values, is_spreadsheet=True)
    assert (found.program, found.notes[0]) == (program, f"This is an export of {program}.")
    assert set(given.valid) == good
    assert len(good) >= 6
    assert {entry.input for entry in given.invalid} == {cell.strip('="') for cell in other if "E+" not in cell}


def test_a_table_with_more_numbers_beside_its_isbns_than_are_searched_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LOOKS", 3)
    found = read_text(f"{DUNE};0-8044-2957-X\n" + "9780804429573;1234567890\n" * 5)
    assert found.notes == ["Outside the columns of ISBNs, only 3 cells were searched for ISBNs."]


@pytest.mark.parametrize(
    ("text", "why", "read"),
    [
        ("1\n" * 300_000, "The text has more than 200,000 lines", 200_000),
        ("\r" * 300_000, "The text has more than 200,000 lines", 200_000),
        ("\u2028" * 300_000, "The text has more than 200,000 lines", 200_000),
        ("a,b\n" * 300_000, "The text has more than 200,000 lines", 0),
        ("1;" * 300_000, "A line of the text has more than 200,000 cells", 0),
        (f"{'1;' * 100_000}\n" * 11, "The text has more than 1,000,000 cells", 0),
        ("9780441172719;9780804429573\n" * 150_000, "The file has more than 200,000 values", 100_001),
    ],
)
def test_a_text_with_too_many_lines_cells_or_values_is_refused_at_the_first_one_too_many(
    text: str, why: str, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0

    def kept(_: Lost, cells: Any, *__: Any) -> Any:
        nonlocal counted
        counted += 1
        return cells

    monkeypatch.setattr(Lost, "kept", kept)
    with pytest.raises(FileUnreadable, match=f"^{why}"):
        read_file(text.encode())
    assert counted <= read
