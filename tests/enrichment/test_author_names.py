"""Reading the names of authors from files."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichment.authors.names import NamesUnreadable, collect, read_names
from enrichment.authors.splitting import CannotTell, Style, split
from enrichment.books.match_keys import name_key
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
    assert read_names(b"Frank Herbert, author\nA. Writer\n").names == ["Frank Herbert", "A. Writer"]
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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Ann Lee\nBob Ray\nCy Poe", "more than 2 authors"),
        ("1\n2\n3\nAnn Lee", "more than 2 lines without a name"),
        ("Ann Lee\n" * 21, "more than 20 lines"),
        (f"Ann Lee\n{'a' * 100_001}", "Line 2 has more than 100,000 characters"),
        (f"title;author\n{';' * 200_000}", "Line 2 has more than 100,000 characters"),
        ('"' * 200_000, "Line 1 has more than 100,000 characters"),
    ],
)
def test_a_list_with_too_many_names_or_lines_or_too_long_a_line_is_refused(text: str, why: str) -> None:
    with pytest.raises(NamesUnreadable, match=why):
        read_names(text.encode(), most=2)


def test_a_list_with_as_many_names_as_allowed_is_read() -> None:
    assert read_names(b"Ann Lee\n1\nBob Ray\n2\nAnn Lee", most=2).names == ["Ann Lee", "Bob Ray"]


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


@pytest.mark.parametrize(
    ("text", "names", "note"),
    [
        ("Writer\nFrank Herbert\n", ["Frank Herbert"], "'Writer'."),
        ("Writer,Country of birth\nFrank Herbert,USA\n", ["Frank Herbert"], "'Writer'."),
        ("scribe;born\nFrank Herbert;1920\n", ["Frank Herbert"], "'scribe'."),
        ("Pen Name,Country\nFrank Herbert,USA\n", ["Pen Name", "Frank Herbert"], "It begins with 'Pen Name'."),
        ("Frank Herbert,1920\n", ["Frank Herbert"], "It begins with 'Frank Herbert'."),
    ],
)
def test_a_head_line_that_is_not_known_is_named(text: str, names: list[str], note: str) -> None:
    found = read_names(text.encode())
    assert found.names == names
    assert found.column.startswith("No column is called author: the first one is taken")
    assert found.column.endswith(note)


@pytest.mark.parametrize("text", ["A. Writer\n", "Herbert, Frank\n", "colette\nA. Writer\n", "author\nA. Writer\n"])
def test_a_list_without_a_table_or_with_a_known_head_line_has_no_note(text: str) -> None:
    assert read_names(text.encode()).column == ""


@pytest.mark.parametrize("head", ["Title,Writer", "ISBN;Written by", "book_id\tpen"])
def test_a_table_that_begins_with_titles_or_numbers_is_refused_with_its_first_line(head: str) -> None:
    with pytest.raises(NamesUnreadable, match=f"Call the column of names author. The first line is: {head}"):
        read_names(f"{head}\nx\n".encode())


def test_a_table_without_a_head_line_and_without_names_says_which_column_was_taken() -> None:
    with pytest.raises(NamesUnreadable, match=r"called author: the first one is taken.* no author name in it"):
        read_names(b"0425115801;Lightning;Dean R. Koontz\n055356451X;Night Sins;Tami Hoag\n")


GOODREADS = '''Book Id,Title,Author,Author l-f,Additional Authors,ISBN,My Rating
1,Dune,Frank Herbert,"Herbert, Frank",,"=""0441013597""",5
2,"Good Omens",Terry Pratchett,"Pratchett, Terry",Neil Gaiman,
3,Mort,Terry Pratchett,"Pratchett, Terry",,
'''
STORYGRAPH = """Title,Authors,Contributors,ISBN/UID,Format
Good Omens,"Terry Pratchett, Neil Gaiman",,9780060853983,hardcover
Poems,"Rumi, Coleman Barks",Someone Else (Translator),,
Lessons,"Alexandra Warren, Alexandra Warren",,,digital
Dreams,"Martin Luther King, Jr.",,,
"""
LIBRARYTHING = """Book Id\tTitle\tSort Character\tPrimary Author\tPrimary Author Role\tSecondary Author
1\tJoy of Cooking\t\tRombauer, Irma S.\tAuthor\tBecker, Marion Rombauer
2\tThunderbolts\t\tDavid Talbott & Wallace Thornhill\tAuthor\t
3\tCien\t\tGarcía Márquez, Gabriel José\tAuthor\t
4\tPeopleware\t\tDeMarco, Tom\tAuthor\tLister, Timothy
"""


@pytest.mark.parametrize(
    ("export", "names"),
    [
        (GOODREADS, ["Frank Herbert", "Terry Pratchett"]),
        (STORYGRAPH, ["Terry Pratchett", "Neil Gaiman", "Rumi", "Coleman Barks", "Alexandra Warren",
                      "Martin Luther King, Jr."]),
        (LIBRARYTHING, ["Rombauer, Irma S.", "David Talbott", "Wallace Thornhill", "García Márquez, Gabriel José",
                        "DeMarco, Tom"]),
    ],
)  # fmt: skip
def test_the_authors_in_exports_of_other_programs_are_found(export: str, names: list[str]) -> None:
    found = read_names(export.encode())
    assert (found.names, found.rejected, found.column) == (names, [], "")


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("Neil Gaiman & Terry Pratchett", ["Neil Gaiman", "Terry Pratchett"]),
        ("Lee Child and Andrew Child", ["Lee Child", "Andrew Child"]),
        ("Chip Heath, Dan Heath and Ann Leckie", ["Chip Heath", "Dan Heath", "Ann Leckie"]),
        ("Pratchett, Terry & Gaiman, Neil", ["Pratchett, Terry", "Gaiman, Neil"]),
        ("Plato; Aristotle | Homer", ["Plato", "Aristotle", "Homer"]),
        ("Le Guin, Ursula K.", ["Le Guin, Ursula K."]),
        ("Le Guin, Ursula", ["Le Guin, Ursula"]),
        ("King, Stephen, 1947-", ["King, Stephen"]),
        ("Austen, Jane, 1775-1817.", ["Austen, Jane"]),
        ("Elio M. García, Jr. & Linda Antonsson", ["Elio M. García, Jr.", "Linda Antonsson"]),
        ("Alexander Sand", ["Alexander Sand"]),
        ("King, Stephen, 1947- & Straub, Peter (1943-2022)", ["King, Stephen", "Straub, Peter"]),
        ("Grimm, Jacob (1785-1863), Grimm, Wilhelm (1786-1859)", ["Grimm, Jacob", "Grimm, Wilhelm"]),
        ("Terry Pratchett (Author), Neil Gaiman [Author]", ["Terry Pratchett", "Neil Gaiman"]),
        ("Gaiman, Neil, author; McKean, Dave (Illustrator)", ["Gaiman, Neil", "McKean, Dave"]),
        ("(Author), Eliyahu M. Goldratt", ["Eliyahu M. Goldratt"]),
        ("Nesbø, Jo", ["Nesbø, Jo"]),
    ],
)
def test_several_names_in_a_cell_are_split(cell: str, names: list[str]) -> None:
    assert [name for name in split(cell, Style()) if name] == names


def test_in_a_list_of_several_names_a_single_word_among_complete_ones_is_a_name() -> None:
    assert split("Homer, Robert Fagles, Bernard Knox", Style(plural=True)) == ["Homer", "Robert Fagles", "Bernard Knox"]
    with pytest.raises(CannotTell):
        split("Rowling, J.K., GrandPré, Mary", Style(plural=True))


def test_a_name_is_sent_as_it_is_given_but_for_invisible_characters() -> None:
    found = read_names("\ufeffNes\u200bbø,  Jo\u200e\nNesbo, Jo\nمی\u200cخواهم\n".encode())
    assert found.names == ["Nesbø, Jo", "می\u200cخواهم"]
    assert found.duplicates == 1


@pytest.mark.parametrize(
    ("cell", "count"),
    [
        ("Barnes & Noble", 2),
        ("Jacob and Wilhelm Grimm", 2),
        ("García Márquez, Gabriel José", 2),
        ("Rowling, J.K., GrandPré, Mary", 4),
        ("Homer, Robert Fagles, Bernard Knox", 3),
    ],
)
def test_a_cell_that_may_have_several_names_is_refused_with_their_number(cell: str, count: int) -> None:
    found = read_names(f'"{cell}"\nFrank Herbert\n'.encode())
    assert found.names == ["Frank Herbert"]
    assert [(bad.line, bad.text, bad.reason) for bad in found.rejected] == [
        (1, cell, f"one author or up to {count}: write one on each line")
    ]
    assert collect([(1, cell)]).names == [cell], "a name that is given alone is one name"


def test_whether_a_list_inverts_its_names_decides_about_two_complete_names() -> None:
    two = '"García Márquez, Gabriel José"'
    assert read_names(f'{two}\n"Herbert, Frank"\n'.encode()).names[0] == two.strip('"')
    assert read_names(f"id,authors\n1,{two}\n2,Frank Herbert\n".encode()).names[1] == "Gabriel José"
    inverted = f'id,authors\n1,{two}\n2,"Herbert, Frank"\n3,"King, Stephen"\n'
    assert read_names(inverted.encode()).names[0] == two.strip('"')


WORD = st.text("abcdefghijklmnopqrstuvwxyzABCDE\u00e9\u0142\u4e80", min_size=2, max_size=8).filter(
    lambda word: word.lower() != "and"
)
PERSON = st.tuples(WORD, WORD).map(" ".join)


@given(st.lists(PERSON, min_size=1, max_size=6), st.sampled_from(["; ", " & ", " and ", "|", ", "]))
def test_complete_names_in_a_cell_are_all_found(people: list[str], between: str) -> None:
    assert split(between.join(people), Style(plural=True)) == people


def test_a_cell_with_many_blanks_takes_no_long_time() -> None:
    cell = "Terry" + 200_000 * " " + "Pratchett"
    assert split(cell, Style()) == [cell]


@given(st.text(max_size=80), st.builds(Style, st.booleans(), st.booleans(), st.booleans()))
def test_splitting_loses_nothing_but_separators_and_years_or_refuses_the_cell(cell: str, style: Style) -> None:
    names: list[str] = []
    with suppress(CannotTell):
        names = split(cell, style)
    rest = cell
    for name in names:
        for word in name.replace(",", " ").split():
            _, found, rest = rest.partition(word)
            assert found == word


def test_our_list_names_some_authors_twice_and_keeps_its_quoted_names() -> None:
    found = read_names((OUR_FOLDER / "authors.csv").read_bytes())
    assert (len(found.names), found.duplicates) == (106, 3)
    assert {"Moriarty, Liane", "Brenda Novak", "Mitch Albom"} <= set(found.names)
