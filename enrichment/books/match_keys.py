"""Keys that match different spellings: a key for the name of an author, and a key for the title of a work.

Keys ignore case, accents, punctuation, apostrophes, the choice between `&` and `and`, and the spacing of initials. They
ignore little else, because two works merged by mistake are worse than one work shown twice:

* The subtitle and brackets of a title count: "Star Wars: A New Hope" is not "Star Wars: The Last Jedi", and
  "(Volume 1)" is not "(Volume 2)". The article does not count, at either end: "The Hobbit" is "Hobbit, The".
* A name with one comma is turned around: "Herbert, Frank" is "Frank Herbert". "King, Jr." is not.

Keys are stored. A change here needs a migration that computes the stored keys again.
"""

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b

_SPACED_INITIALS = re.compile(r"\b(\w) (?=\w\b)")
_SUFFIXES = {"jr", "sr", "ii", "iii", "iv", "md", "phd"}
_ARTICLES = "the|a|an"
_LEADING_ARTICLE = re.compile(rf"^(?:{_ARTICLES}) ")
_TRAILING_ARTICLE = re.compile(rf"(?<=.),\s*(?:{_ARTICLES})\s*$", re.IGNORECASE)
_CACHED = 4096  # more than a batch needs: decoding computes its keys, and storing needs them again
_MAX_LENGTH = 200  # characters of up to 4 bytes; an entry of a btree index holds 2,704 bytes, so two keys fit


@lru_cache(maxsize=_CACHED)
def name_key(name: str) -> str:
    """The key of an author's name: at most 200 characters, and empty only for an empty name."""
    last, comma, first = name.partition(",")
    if comma and "," not in first and not is_suffix(first):
        name = f"{first} {last}"
    return _bounded(_SPACED_INITIALS.sub(r"\1", _words(name)) or name)


def is_suffix(text: str) -> bool:
    """Whether a text after a comma belongs to the name before it: `Jr.`."""
    return _words(text) in _SUFFIXES


@lru_cache(maxsize=_CACHED)
def title_key(title: str) -> str:
    """The key of a title: at most 200 characters, and empty only for an empty title."""
    words = _words(_TRAILING_ARTICLE.sub("", title))
    return _bounded(_LEADING_ARTICLE.sub("", words) or title)


def _words(text: str) -> str:
    """The words in lower case, without accents, separated by one space; "" when there is no letter or digit."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFKD", text).translate(_ACCENTS))
    return " ".join(text.translate(_LETTERS).split())


def _bounded(key: str) -> str:
    if len(key) <= _MAX_LENGTH:
        return key
    return key[: _MAX_LENGTH - 16] + blake2b(key.encode(), digest_size=8).hexdigest()


class _Letters(dict[int, str]):
    """Maps a character to its form in a key. Fills itself as characters appear."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        is_letter = character.isalnum() or unicodedata.category(character).startswith("M")
        return self.setdefault(code, character.casefold() if is_letter else " ")


_LETTERS = _Letters({ord("&"): " and "} | dict.fromkeys(map(ord, "'’‘ʼ`"), ""))
_ACCENTS = dict.fromkeys(range(0x0300, 0x0370))  # only these marks: Japanese and Indic marks make different letters
