import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichment.isbn.parsing import InvalidIsbn, Reason, parse, to_isbn10

DUNE = "9780441172719"
INVISIBLE = ["\ufeff", "\u200b", "\u200e", "\xa0", "\xad", "\u2060", "\t", "\r\n"]
DASHES = ["-", "‐", "‑", "‒", "–", "—", "−", "－", "﹘", " ", "\u2009", "\u3000", ""]
DIGITS = ["0123456789", "٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹", "०१२३४५६७८९", "０１２３４５６７８９", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗"]
LABELS = [
    "",
    "ISBN ",
    "isbn",
    "ISBN: ",
    "ISBN-13: ",
    "ISBN-10 ",
    "Isbn13:",
    "ISBN10: ",
    "urn:isbn:",
    "URN:ISBN:",
    "ＩＳＢＮ",
]


def check_digit_13(digits: str) -> str:
    return str(-sum(int(digit) * (3 if index % 2 else 1) for index, digit in enumerate(digits)) % 10)


def check_digit_10(digits: str) -> str:
    return "0123456789X"[sum(weight * int(digit) for weight, digit in enumerate(digits, start=1)) % 11]


def isbn13_of(digits: str) -> str:
    return digits + check_digit_13(digits)


def reason_of(value: str | int) -> Reason:
    with pytest.raises(InvalidIsbn) as caught:
        parse(value)
    return caught.value.reason


isbn13s = st.one_of(
    st.integers(0, 10**9 - 1).map(lambda number: isbn13_of(f"978{number:09d}")),
    st.integers(10**8, 10**9 - 1).map(lambda number: isbn13_of(f"979{number:09d}")),  # 979-0 is music
)


@pytest.mark.parametrize(
    "written",
    [
        "9780441172719",
        "978-0-441-17271-9",
        " 978 0 441 17271 9\n",
        "978–0–441–17271–9",
        "0441172717",
        "0-441-17271-7",
        "ISBN 0441172717",
        "ISBN-13: 978-0-441-17271-9",
        "ISBN10: 0441172717",
        "ISBN-10 0-441-17271-7",
        "urn:isbn:0441172717",
        "\ufeff9780441172719",
        "978\u200b0441\xad172719",
        "٩٧٨٠٤٤١١٧٢٧١٩",
        "９７８－０－４４１－１７２７１－９",
        9780441172719,
        441172717,
        "(9780441172719)",
        "9780441172719.",
        "0441172717;",
        "978-0-441-17271-9 (pbk.)",
        "0441172717 (v. 1 : alk. paper) :",
        "9780441172719 : $20.00",
        "9780441172719 [hardback]",
        '="9780441172719"',
        "'0441172717",
        "9780441172719.0",
        9780441172719.0,
        441172717.0,
        "9.780441172719E+12",
        "978044117271951299",
        "978-0-441-17271-9 51299",
        "9780441172719+05",
    ],
)
def test_every_usual_form_of_an_isbn_is_accepted(written: str | int) -> None:
    assert parse(written) == DUNE


@pytest.mark.parametrize("written", ["080442957x", "080442957X", "isbn 0-8044-2957-x"])
def test_a_lower_case_x_is_accepted(written: str) -> None:
    assert parse(written) == "9780804429573"


def test_a_979_isbn_is_kept() -> None:
    assert parse("979-10-323-0569-0") == "9791032305690"


@pytest.mark.parametrize("written", ["ISBN 1036100006", "ISBN1036100006", "ISBN-10 1036100006", "1036100006"])
def test_the_digits_of_a_label_are_not_a_part_of_the_number(written: str) -> None:
    assert parse(written) == "9781036100001"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("9780441172710", "wrong check digit"),
        ("0441172718", "wrong check digit"),
        (9780441172710, "wrong check digit"),
        ("978044117271", "wrong length"),
        ("97804411727190", "wrong length"),
        ("441172717", "wrong length"),  # a text is never padded
        ("97522980X", "wrong length"),
        ("441172717.0", "wrong length"),
        ("441172717 (pbk.)", "wrong length"),
        ("1", "wrong length"),
        (123456, "wrong length"),
        (12345678901, "wrong length"),
        (97804411727190, "wrong length"),
        pytest.param(10**5000, "wrong length", id="a number of 5001 digits"),
        ("", "not an ISBN"),
        ("   ", "not an ISBN"),
        ("ISBN", "not an ISBN"),
        ("Dune", "not an ISBN"),
        ("978-0-441-17271-9 and 0-8044-2957-X", "not an ISBN"),
        ("X441172717", "not an ISBN"),
        ("9790060115615", "not an ISBN"),  # sheet music
        ("5901234123457", "not an ISBN"),  # a bar code that is not an ISBN
        ("1234567890123", "not an ISBN"),
        ("\ud800", "not an ISBN"),
        (-9780441172719, "not an ISBN"),
        (True, "not an ISBN"),
        (1.5, "not an ISBN"),
        (float("nan"), "not an ISBN"),
        (float("inf"), "not an ISBN"),
        ("0316769487 (pbk.) 9780735211292 (hbk.)", "not an ISBN"),
        ("9.78E+12", "digits lost in a spreadsheet"),
        ("9,78044E+12", "digits lost in a spreadsheet"),
        (9.78044e12, "digits lost in a spreadsheet"),
    ],
)
def test_an_invalid_value_is_refused_with_the_reason(value: str | int, reason: str) -> None:
    assert reason_of(value) == reason


def test_979_has_no_isbn10() -> None:
    assert to_isbn10("9791032305690") is None
    assert to_isbn10("9780804429573") == "080442957X"


@given(isbn13s)
def test_an_isbn10_converts_back_to_its_isbn13(isbn13: str) -> None:
    isbn10 = to_isbn10(isbn13)
    if isbn13.startswith("979"):
        assert isbn10 is None
    else:
        assert isbn10 == isbn13[3:12] + check_digit_10(isbn13[3:12])
        assert parse(isbn10) == isbn13


@given(isbn13s, st.data())
@pytest.mark.slow
def test_formatting_makes_no_difference(isbn13: str, data: st.DataObject) -> None:
    written = data.draw(st.sampled_from([isbn13, to_isbn10(isbn13) or isbn13]))
    digits = data.draw(st.sampled_from(DIGITS))
    separators = data.draw(
        st.lists(st.sampled_from(DASHES + INVISIBLE), min_size=len(written) - 1, max_size=len(written) - 1)
    )
    decorated = "".join(
        (digits[int(character)] if character.isdigit() else data.draw(st.sampled_from("xX"))) + separator
        for character, separator in zip(written, [*separators, ""], strict=True)
    )
    label = data.draw(st.sampled_from(LABELS))
    around = data.draw(st.sampled_from(INVISIBLE))
    assert parse(around + label + decorated + around) == isbn13


@given(isbn13s, st.data())
def test_any_other_last_digit_is_a_wrong_check_digit(isbn13: str, data: st.DataObject) -> None:
    written = data.draw(st.sampled_from([isbn13, to_isbn10(isbn13) or isbn13]))
    first = 3 if len(written) == 13 else 0  # another prefix is another kind of number
    position = data.draw(st.integers(first, len(written) - 1))
    digit = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != written[position]]))
    changed = written[:position] + digit + written[position + 1 :]
    if not changed.startswith("9790"):
        assert reason_of(changed) == Reason.WRONG_CHECK_DIGIT
