"""Keys under which differently written names and titles meet: an author's, and a work's.

Case, accents, punctuation, apostrophes, `&` or `and`, and the spacing of initials make no difference. Beyond that
the keys are careful, since two works wrongly merged are worse than one shown twice:

* a title's subtitle and brackets count ("Star Wars: A New Hope" is not "Star Wars: The Last Jedi", "(Volume 1)" not
  "(Volume 2)"); its leading article does not, wherever it stands ("The Hobbit", "Hobbit, The");
* a name with one comma is turned round ("Herbert, Frank" is "Frank Herbert"), but not "King, Jr.".
"""

import re
import unicodedata
from hashlib import blake2b

_SPACED_INITIALS = re.compile(r"\b(\w) (?=\w\b)")
_SUFFIXES = {"jr", "sr", "ii", "iii", "iv", "md", "phd"}
_ARTICLES = "the|a|an"
_LEADING_ARTICLE = re.compile(rf"^(?:{_ARTICLES}) ")
_TRAILING_ARTICLE = re.compile(rf"(?<=.),\s*(?:{_ARTICLES})\s*$", re.IGNORECASE)
_LONGEST = 200  # characters; two keys of 4 bytes each fit the 2,704 bytes of a btree entry


def name_key(name: str) -> str:
    """The key of an author's name, at most 200 characters, never empty for a name that is not."""
    last, comma, first = name.partition(",")
    if comma and "," not in first and _words(first) not in _SUFFIXES:
        name = f"{first} {last}"
    return _bounded(_SPACED_INITIALS.sub(r"\1", _words(name)) or name)


def title_key(title: str) -> str:
    """The key of a title, at most 200 characters, never empty for a title that is not."""
    words = _words(_TRAILING_ARTICLE.sub("", title))
    return _bounded(_LEADING_ARTICLE.sub("", words) or title)


def _words(text: str) -> str:
    """Lower-case words without accents, one space between them; empty where there is no letter or digit."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFKD", text).translate(_ACCENTS))
    return " ".join(text.translate(_LETTERS).split())


def _bounded(key: str) -> str:
    if len(key) <= _LONGEST:
        return key
    return key[: _LONGEST - 16] + blake2b(key.encode(), digest_size=8).hexdigest()


class _Letters(dict[int, str]):
    """What stands for a character in a key; filled as characters turn up."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        is_letter = character.isalnum() or unicodedata.category(character).startswith("M")
        return self.setdefault(code, character.casefold() if is_letter else " ")


_LETTERS = _Letters({ord("&"): " and "} | dict.fromkeys(map(ord, "'’‘ʼ`"), ""))
_ACCENTS = dict.fromkeys(range(0x0300, 0x0370))  # not all marks: Japanese and Indic ones make other letters
