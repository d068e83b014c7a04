import codecs

import pytest

from alexandria.common.text import decode_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_unicode_file_is_decoded_for_certain(encoding: str) -> None:
    assert decode_text("Brontë;9780441172719".encode(encoding)) == ("Brontë;9780441172719", "")


def test_a_file_that_is_not_unicode_is_decoded_as_windows_1252_and_reported_as_a_guess() -> None:
    assert decode_text("Brontë’s;9780441172719".encode("cp1252")) == ("Brontë’s;9780441172719", "Windows-1252")


@pytest.mark.parametrize("content", [b"", b"\x81\x8d", codecs.BOM_UTF8 + b"\xff", codecs.BOM_UTF16_LE + b"a"])
def test_any_bytes_can_be_decoded(content: bytes) -> None:
    decode_text(content).text.encode()
