import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichment.books.match_keys import name_key, title_key


@pytest.mark.parametrize(
    "names",
    [
        ["J.R.R. Tolkien", "J. R. R. Tolkien", "JRR Tolkien", "j r r  tolkien", "Tolkien, J. R. R."],
        ["Charlotte Brontë", "Charlotte Bronte", "Bronte\u0308, Charlotte", "BRONTË, CHARLOTTE"],
        ["Flann O'Brien", "Flann O’Brien"],
        ["Ed McBain", "McBain, Ed", "McBain, Ed, 1926-2005", "McBain, Ed (Author)", "McBain, Ed, author"],
        ["John Smith", "John Smith, Ed", "Smith, John, Ed", "Smith, John, ed."],
        ["Martin Luther King Jr.", "Martin Luther King, Jr."],
        ["Straße", "STRASSE"],
        ["Jo Nesbø", "Jo Nesbo", "NESBØ, JO", "Nes\u200bbø, Jo\ufeff"],
        ["Stanisław Lem", "Stanislaw Lem"],
        ["Işıl Đorđević Þórsson", "isil dordevic thorsson"],
        ["Ærø Œuvre", "aero oeuvre"],
        ["Frank Herbert", "Fra\u200bnk Herbert", "Frank\u00a0Herbert", "Frank Her\ufe0fbert", "Frank\u3164 Herbert"],
        [
            "King, Stephen",
            "Stephen King (1947-)",
            "King, Stephen, 1947-",
            "King, Stephen 1947-",
            "King, Stephen, b. 1947",
        ],
        ["Neil Gaiman", "Gaiman, Neil (Author)", "Neil Gaiman [Author, Narrator]", "Gaiman, Neil, 1960- author."],
        ["Plato", "Plato, 428-348 B.C.", "Plato, ca. 428 BC-348 BC"],
        ["Martin Luther King Jr.", "King, Martin Luther, Jr."],
    ],
)
def test_all_spellings_of_a_name_have_one_key(names: list[str]) -> None:
    assert len({name_key(name) for name in names}) == 1


@pytest.mark.parametrize(
    "names",
    [
        ["Henry James", "James Henry"],
        ["が", "か"],
        ["हिंदी", "हद"],
        ["John Smith", "John Smith (poet)"],
        ["1984", "1985"],
        ["(Author)", "(Editor)"],
        ["???", "!!!"],
        ["x" * 250, "x" * 251],
    ],
)
def test_different_names_have_different_keys(names: list[str]) -> None:
    assert len({name_key(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "titles",
    [
        ["The Hobbit", "Hobbit, The", "the hobbit", "The  Hobbit."],
        ["Pride & Prejudice", "Pride and Prejudice"],
        ["Sapiens: A Brief History", "Sapiens - A brief history", "Sapiens (A Brief History)"],
    ],
)
def test_all_spellings_of_a_title_have_one_key(titles: list[str]) -> None:
    assert len({title_key(title) for title in titles}) == 1


@pytest.mark.parametrize(
    "titles",
    [
        ["Star Wars: A New Hope", "Star Wars: The Last Jedi", "Star Wars"],
        ["Fables (Volume 1)", "Fables (Volume 2)"],
        ["A", "The"],
    ],
)
def test_different_titles_have_different_keys(titles: list[str]) -> None:
    assert len({title_key(title) for title in titles}) == len(titles)


@given(st.text(min_size=1))
def test_a_key_is_never_empty_and_fits_an_index(text: str) -> None:
    for key in (name_key(text), title_key(text)):
        assert 0 < len(key) <= 200


@pytest.mark.parametrize("name", ["x (" + 50_000 * "c " + ")", "x 1234 -" + 100_000 * " " + "x", 50_000 * "b. "])
def test_a_long_name_takes_no_long_time(name: str) -> None:
    assert len(name_key(name)) <= 200
