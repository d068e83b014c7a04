"""Text: from the bytes of a file to characters."""

import codecs
from typing import NamedTuple

_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class DecodedText(NamedTuple):
    text: str
    guessed: str
    """The name of the encoding when it is only a guess; "" when the bytes prove it."""


def decode_text(content: bytes) -> DecodedText:
    """Decodes a file: by its byte order mark, as UTF-8, or else as Windows-1252, which accepts any bytes."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return DecodedText(content.decode(encoding, "replace"), "")
    try:
        return DecodedText(content.decode("utf-8"), "")
    except UnicodeDecodeError:
        return DecodedText(content.decode("cp1252", "replace"), "Windows-1252")
