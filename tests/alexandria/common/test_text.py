import codecs
from datetime import timedelta

import pytest

from alexandria.common.text import counted, decode_text, length_of_time, number, visible


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_unicode_file_is_decoded_for_certain(encoding: str) -> None:
    assert decode_text("Brontë;9780441172719".encode(encoding)) == ("Brontë;9780441172719", "")


def test_a_file_that_is_not_unicode_is_decoded_as_windows_1252_and_reported_as_a_guess() -> None:
    assert decode_text("Brontë’s;9780441172719".encode("cp1252")) == ("Brontë’s;9780441172719", "Windows-1252")


@pytest.mark.parametrize("content", [b"", b"\x81\x8d", codecs.BOM_UTF8 + b"\xff", codecs.BOM_UTF16_LE + b"a"])
def test_any_bytes_can_be_decoded(content: bytes) -> None:
    decode_text(content).text.encode()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 00 s"),
        (270, "4 min 30 s"),
        (11_100, "3 h 05 min"),
        (198_000, "2 d 7 h"),
    ],
)
def test_a_length_of_time_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert length_of_time(timedelta(seconds=seconds)) == text


def test_a_number_agrees_with_its_noun() -> None:
    assert [counted(count, "call") for count in (0, 1, 1_000)] == ["0 calls", "1 call", "1,000 calls"]
    assert counted(2, "entry", "entries") == "2 entries"
    assert (number(13_000), number(None)) == ("13,000", "none")


@pytest.mark.parametrize(
    "text",
    [
        "rea\u200bder",
        "\ufeffreader",
        "reader\u202e",
        "rea\u00adder",
        "rea\u0000der",
        "reader\u3164",
        "rea\u115fder",
        "rea\ufe0fder",
        "\u00a0reader\u2003",
        "rea\U000e0061der",
    ],
)
def test_characters_that_nobody_can_see_are_stripped_from_a_name(text: str) -> None:
    assert visible(text) == "reader"


def test_what_can_be_seen_stays_and_every_space_is_a_plain_one() -> None:
    assert visible("Ana\u00a0 María\t日本\u3000語 👍") == "Ana María 日本 語 👍"
