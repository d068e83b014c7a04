"""The one reader of ISBNs: several in a value, what is missing, and what was probably meant."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichment.isbn import reading
from enrichment.isbn.parsing import Reason, to_isbn10
from enrichment.isbn.reading import MAX_SHOWN, State, read
from tests.enrichment.isbn.test_parsing import isbn13_of, isbn13s

DUNE, EMMA = "9780441172719", "9780804429573"


def read_one(value: object, **options: bool) -> list[tuple[str | None, str | None]]:
    """The ISBN-13 and the reason of each entry."""
    return [(entry.isbn13, entry.reason and entry.reason.value) for entry in read([value], **options).entries]


@pytest.mark.parametrize(
    "value",
    [
        "0441172717 (pbk.) 9780804429573 (hbk.)",
        f"{DUNE}/{EMMA}",
        f"{DUNE},{EMMA}",
        f"{DUNE} {EMMA}",
        f"{DUNE} – {EMMA}",
        "978-0-441-17271-9 978-0-8044-2957-3",
        "978 0 441 17271 9 978 0 8044 2957 3",
        "0-441-17271-7 0-8044-2957-X",
        "0441172717; 080442957x",
        f"{DUNE} 978 0 8044 2957 3",
        "£9.00 978 0 441 17271 9 : $20.00 978 0 8044 2957 3",
        "2 978-0-441-17271-9 — 080442957X",
        "ISBN 0-441-17271-7 : $20.00; ISBN-13: 978 0 8044 2957 3 (hbk.) : £12.99 2004",
        "ISBN 13 978-0-441-17271-9 ISBN10 080442957X",
        "ISBN139780441172719 ISBN10080442957X",
        "urn:isbn:0441172717 urn:isbn:9780804429573",
        f"{DUNE} 51299 / {EMMA}90000",
        f'["{DUNE}", "{EMMA}"]',
        f"Dune, 1965, {DUNE}x2 and Emma (1815), https://example.org/isbn/{EMMA}",
        "９７８０４４１１７２７１９、９７８０８０４４２９５７３",
    ],
)
def test_several_isbns_in_a_value_are_all_found(value: str) -> None:
    assert read([value]).valid == [DUNE, EMMA]
    assert read([value]).invalid == []


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (f"{DUNE} (pbk.) 978080442957 (hbk.)", [(DUNE, None), (None, "wrong length")]),
        (f"{DUNE} / 0-8044-2957-1", [(DUNE, None), (None, "wrong check digit")]),
        (f"978-0-441-17271-8 {EMMA}", [(None, "wrong check digit"), (EMMA, None)]),
        (f"441172717 / {EMMA}", [(None, "wrong length"), (EMMA, None)]),
        (f"0-316-7648-7 {EMMA}", [(None, "wrong length"), (EMMA, None)]),
        (f"{DUNE} 2004 12 99", [(DUNE, None)]),
        (f"B0027VSU9S {DUNE}", [(DUNE, None)]),
    ],
)
def test_a_mistaken_isbn_beside_a_valid_one_is_reported_and_other_numbers_are_not(value: str, found: Any) -> None:
    assert read_one(value) == found


@pytest.mark.parametrize("value", ["", " ", "-", "–", "[]", "()", '=""', None, float("nan"), "NaN", "null", []])
def test_what_stands_for_nothing_has_no_entry(value: object) -> None:
    assert read([value]).entries == []


def test_the_entries_are_in_order_and_add_up() -> None:
    found = read([EMMA, "x", "080442957X", 441172717, DUNE, None, "12"])
    assert (found.requested, found.valid, found.duplicates, len(found.invalid)) == (6, [EMMA, DUNE], 2, 2)
    assert [(entry.input, entry.state) for entry in found.entries] == [
        (EMMA, State.VALID),
        ("x", State.INVALID),
        ("080442957X", State.DUPLICATE),
        ("441172717", State.VALID),
        (DUNE, State.DUPLICATE),
        ("12", State.INVALID),
    ]
    assert read(found) is found


@pytest.mark.parametrize("value", ["441172717", "441172717.0", "441-17271-7", "SBN 441-17271-7", "441172717 (pbk.)"])
def test_nine_digits_are_mended_in_a_spreadsheet_and_suggested_elsewhere(value: str) -> None:
    assert read_one(value, is_spreadsheet=True) == [(DUNE, None)]
    [entry] = read([value]).entries
    assert (entry.state, entry.reason, entry.suggestion) == (State.INVALID, Reason.WRONG_LENGTH, "0441172717")


def test_a_spreadsheet_can_take_three_zeros_and_the_digits_must_still_fit() -> None:
    assert read(["7117116", "61120081", "80442957X"], is_spreadsheet=True).valid == [
        "9780007117116",
        "9780061120084",
        EMMA,
    ]
    assert read_one("441172718", is_spreadsheet=True) == [(None, "wrong length")]
    assert read_one(f"441172717 / {EMMA}", is_spreadsheet=True) == [(DUNE, None), (EMMA, None)]


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("61120081", "0061120081"),
        ("80442957x", "080442957X"),
        ("978-0-441-17271-8", "9780441172719"),  # the check digit: no two neighbours make it right
        ("0-441-17271-8", "0441172717"),
        ("0414172717", "0441172717"),  # two neighbours in the other order
        ("ISBN 978-0-593-31520-4 (pbk.)", "9780593135204"),
        ("0441172771", "0441172776"),  # two ways to put neighbours right, so it is the check digit
        ("O44ll727l7", "0441172717"),
        ("441172718", None),
        ("97804411727", None),
        ("9.78E+12", None),
        ("Dune", None),
        ("9790060115614", None),
    ],
)
def test_what_was_probably_meant_is_suggested(value: str, meant: str | None) -> None:
    [entry] = read([value]).entries
    assert entry.state is State.INVALID
    assert entry.suggestion == meant


@pytest.mark.parametrize(
    "value", [True, {"isbn": DUNE}, [DUNE], "x\ud800", pytest.param(10**5000, id="5001 digits"), 1e300]
)
def test_a_bad_value_of_any_kind_costs_only_itself(value: object) -> None:
    found = read([DUNE, value, EMMA])
    assert (found.valid, len(found.invalid)) == ([DUNE, EMMA], 1)
    shown = found.invalid[0].input
    assert json.dumps(shown).encode()
    assert len(shown.encode()) <= 3 * MAX_SHOWN


def test_a_long_value_is_read_completely_and_shown_in_part() -> None:
    found = read([f"{'long ' * 50_000}{DUNE}"])
    assert (found.valid, len(found.entries[0].input)) == ([DUNE], MAX_SHOWN)


WORDS = [
    "",
    "Dune",
    "(pbk.)",
    "[hbk.] :",
    "$20.00",
    "£12.99 ;",
    "1965",
    "v. 2",
    "2nd ed.",
    "—",
    "ISBN",
    "ISBN-13:",
    "€ 9,99",
]
BETWEEN = [" ", " / ", "; ", ", ", "\n", " | ", " (pbk.) ", " : $20.00 ; ", " and ", " – "]


@st.composite
def written(draw: st.DrawFn) -> tuple[str, str]:
    """An ISBN-13, and one of the forms in which people write it."""
    isbn13 = draw(isbn13s)
    isbn10 = to_isbn10(isbn13)
    number = draw(st.sampled_from([isbn13, isbn10 or isbn13]))
    if draw(st.booleans()):  # groups, as on a cover
        mark, body = draw(st.sampled_from("- ")), number[-10:-1]
        first, second = sorted(draw(st.sets(st.integers(1, 8), min_size=2, max_size=2)))
        prefix = [number[:3]] if len(number) == 13 else []
        number = mark.join([*prefix, body[:first], body[first:second], body[second:], number[-1]])
    label = draw(
        st.sampled_from(["", "ISBN ", "ISBN: ", "urn:isbn:", "ISBN-13: " if "978" in number[:3] else "ISBN-10 "])
    )
    return isbn13, f"{label}{number}"


@given(st.lists(st.tuples(written(), st.sampled_from(WORDS)), min_size=1, max_size=5), st.sampled_from(BETWEEN))
@pytest.mark.slow
def test_each_isbn_in_a_text_is_found_or_reported(parts: list[tuple[tuple[str, str], str]], between: str) -> None:
    text = between.join(f"{number} {word}".strip() for (_, number), word in parts)
    assert set(read([text]).valid) == {isbn13 for (isbn13, _), _ in parts}


@given(isbn13s, st.integers(3, 12), st.integers(0, 9), st.sampled_from(BETWEEN))
def test_a_wrong_isbn_beside_a_right_one_is_reported(isbn13: str, place: int, digit: int, between: str) -> None:
    wrong = isbn13[:place] + str(digit) + isbn13[place + 1 :]
    found = read([f"{wrong}{between}{EMMA}"])
    assert found.requested == 2
    assert (found.valid == [EMMA]) == (wrong in {entry.input for entry in found.invalid} or wrong == EMMA)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.text("0123456789xX- ISBN:/()"), st.none(), st.booleans()))
def test_any_value_is_read_and_what_is_valid_has_the_right_check_digit(value: object) -> None:
    for is_spreadsheet in (False, True):
        found = read([value], is_spreadsheet=is_spreadsheet)
        assert found.requested == len(found.valid) + len(found.invalid) + found.duplicates
        for isbn13 in found.valid:
            assert isbn13 == isbn13_of(isbn13[:12])
            assert isbn13.startswith(("978", "979"))
        assert all(entry.reason for entry in found.invalid)
        assert all(entry.suggestion is None for entry in found.entries if entry.state is not State.INVALID)


def test_isbns_are_looked_for_in_a_bounded_number_of_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that comes later is taken only as a whole: a list of 4 MB of `1 1 1` took 18 seconds."""
    text = f"a 1 1 {DUNE} b"
    monkeypatch.setattr(reading, "MAX_GROUPS", 6)
    found = read([text, text, text, DUNE])
    assert [entry.state for entry in found.entries] == [State.VALID, State.DUPLICATE, State.INVALID, State.DUPLICATE]
