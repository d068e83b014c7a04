"""Keys that match different spellings: a key for the name of an author, and a key for the title of a work.

Keys ignore case, accents, punctuation, apostrophes, invisible characters, the choice between `&` and `and`, and the
spacing of initials. Letters that have no accent but a plain cousin count as it: Nesbø is Nesbo. Keys ignore little
else, because two works merged by mistake are worse than one work shown twice:

* The subtitle and most brackets of a title count: "Star Wars: A New Hope" is not "Star Wars: The Last Jedi". The
  article does not count, at either end: "The Hobbit" is "Hobbit, The". title_notes.py says which brackets do not count,
  and how the numbers of volumes do: "Fables, Vol. 1" is "Fables (Volume One)", and not "Fables (Volume 2)".
* A name with one comma is turned around: "Herbert, Frank" is "Frank Herbert". "King, Jr." is not. The years of a life
  and roles do not count: "King, Stephen, 1947-", "Neil Gaiman (Author)"; see person_notes.py.

Keys are stored. After a change here, an edition gets its new keys with the next answer of ISBNdb: the content hash
covers the keys.
"""

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b

from alexandria.common.text import is_invisible
from enrichment.books import person_notes, title_notes

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
    bare = person_notes.without_notes(name)
    last, comma, first = bare.partition(",")
    first, _, suffix = first.partition(",")
    if comma and not is_suffix(first) and (not suffix or is_suffix(suffix)):
        bare = f"{first} {last} {suffix}"
    return _bounded(_SPACED_INITIALS.sub(r"\1", _words(bare)) or name)


def is_suffix(text: str) -> bool:
    """Whether a text after a comma belongs to the name before it: `Jr.`."""
    return _words(text) in _SUFFIXES


@lru_cache(maxsize=_CACHED)
def title_key(title: str, title_long: str = "") -> str:
    """The key of a title: at most 200 characters, and empty only for an empty title.

    When the title itself has no number of a volume or part, those in the long title count.
    """
    plain = title_notes.numbered(_TRAILING_ARTICLE.sub("", title_notes.without_notes(title)))
    key = _LEADING_ARTICLE.sub("", _words(plain)) or title
    if title_long and title_long != title and not title_notes.numbers(title):
        key = " ".join([key, *title_notes.numbers(title_notes.without_notes(title_long))])
    return _bounded(key)


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
        character, category = chr(code), unicodedata.category(chr(code))
        if is_invisible(character) and not character.isspace():
            return self.setdefault(code, "")
        is_letter = character.isalnum() or category.startswith("M")
        return self.setdefault(code, character.casefold().translate(_COUSINS) if is_letter else " ")


_COUSINS = str.maketrans(
    {"ø": "o", "ł": "l", "ı": "i", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "ŋ": "n", "æ": "ae", "œ": "oe", "þ": "th"}
)
"""Letters that Unicode does not take apart. `ß` becomes `ss` by itself."""
_LETTERS = _Letters({ord("&"): " and "} | dict.fromkeys(map(ord, "'’‘ʼ`"), ""))
_ACCENTS = dict.fromkeys(range(0x0300, 0x0370))  # only these marks: Japanese and Indic marks make different letters
