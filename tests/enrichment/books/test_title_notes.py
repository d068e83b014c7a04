"""Volumes are told apart wherever their number stands; series, imprint and format in brackets split no work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichment.books.match_keys import title_key


@pytest.mark.parametrize(
    "titles",
    [
        [("Fables, Vol. 1", ""), ("Fables (Volume One)", ""), ("Fables: volume I", ""), ("Fables [Bd. 01]", "")],
        [("Fables", "Fables, Vol. 2: Animal Farm"), ("Fables", "Fables (Vol. 2 of 22)"), ("Fables", "Fables v.2 (DC)")],
        [("Fables (Fables, #2)", ""), ("Fables (Fables, Vol. 2)", ""), ("Fables, Volume 2", "")],
        [("Henry IV, Part Two", ""), ("Henry IV", "Henry IV, Pt. 2"), ("Henry IV", "Henry IV. Part II (Arden)")],
        [("Saga", "Saga #3"), ("Saga #3", "")],
        [
            ("The Hunger Games", "The Hunger Games: A Novel"),
            ("The Hunger Games (The Hunger Games, #1)", ""),
            ("The Hunger Games (Hunger Games Trilogy, Book 1)", ""),
            ("The Hunger Games (Hunger Games 1)", ""),
            ("The Hunger Games", "The Hunger Games (The Hunger Games, Book One)"),
            ("The Hunger Games", "The Hunger Games: Book One of The Hunger Games"),
        ],
        [("PostSecret: Confessions", ""), ("PostSecret: Confessions (PostSecret)", "")],
        [("White Women: The Journals", ""), ("White Women: The Journals (White Women#1)", "")],
        [
            ("Dune", ""),
            ("Dune (Penguin Classics)", ""),
            ("Dune (SF Masterworks)", ""),
            ("Dune [Mass Market Paperback]", ""),
            ("Dune (Unabridged) [Audio CD]", ""),
            ("Dune (Large Print)", ""),
            ("Dune (40th Anniversary Edition)", ""),
            ("Dune (Dune Chronicles)", ""),
            ("Dune (The Desert Saga 1)", ""),
            ("Dune (Desert Planet, 1)", ""),
            ("Dune (Penguin Classics, 12)", ""),
        ],
    ],
)
def test_editions_of_one_work_have_one_key(titles: list[tuple[str, str]]) -> None:
    assert len({title_key(*title) for title in titles}) == 1


@pytest.mark.parametrize(
    "titles",
    [
        [("Fables", ""), ("Fables", "Fables, Vol. 1: Legends in Exile"), ("Fables", "Fables, Vol. 2: Animal Farm")],
        [("Fables", "Fables, Vol. 1-3"), ("Fables", "Fables, Vol. 1"), ("Fables", "Fables, Vol. 1.5")],
        [("Faust", "Faust, Part 1"), ("Faust", "Faust, Part 2"), ("Faust", "Faust, Vol. 2"), ("Faust", "")],
        [("Fables (Fables, #2)", ""), ("Fables (Fables, #3)", ""), ("Fables (Fables, #1)", "")],
        [("Star Wars (A New Hope)", ""), ("Star Wars (The Last Jedi)", ""), ("Star Wars", "")],
        [("Algebra", ""), ("Algebra (Teacher's Edition)", ""), ("Algebra (Student Workbook)", "")],
        [("Naruto", ""), ("Naruto (Box Set)", ""), ("Naruto (The Complete Series)", ""), ("Naruto (Abridged)", "")],
        [("Algebra", ""), ("Algebra (Grade 7)", ""), ("Algebra (Grade 8)", "")],
        [("Sandman", ""), ("Sandman (1 of 10)", ""), ("Sandman (2 of 10)", "")],
        [("Saga", ""), ("Saga (Deluxe Edition, Book 1)", ""), ("Saga (Deluxe Edition, Book 2)", "")],
        [("Naruto, Vol. 1", ""), ("Naruto (3-in-1 Edition), Vol. 1", "")],
        [("Sapiens", ""), ("Sapiens (Young Readers Edition)", "")],
        [("(Penguin Classics)", ""), ("(Paperback)", "")],
    ],
)
def test_different_works_have_different_keys(titles: list[tuple[str, str]]) -> None:
    assert len({title_key(*title) for title in titles}) == len(titles)


@given(st.text(st.sampled_from("aVv.#1 2(),[]ofI") | st.characters(), max_size=60), st.text(max_size=60))
def test_any_title_has_a_key(title: str, title_long: str) -> None:
    key = title_key(title, title_long)
    assert (0 if not title else 1) <= len(key) <= 200


def test_a_long_title_full_of_brackets_takes_no_long_time() -> None:
    for piece in ("(a 1 ", "a " * 20, "vol ", "(#1) ", ", the ", "a (a #2) "):
        title_key(f"({piece * 8000})", piece * 8000)
