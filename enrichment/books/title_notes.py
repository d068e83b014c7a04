"""What a title says beside the title: the number of a volume or part, and notes in brackets.

Two volumes are two works, so their numbers count, however they are written. The series, the imprint and the format do
not: `Dune (Dune Chronicles, #1)`, `Dune (Penguin Classics)` and `Dune [Paperback]` are Dune. Other brackets count as
words, because they can be the only difference between two works.
"""

import re


def _words_of(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))


_KINDS = {
    "volume": ("volumes?", "vols?", "volumen", "v(?=\\.?\\s*[0-9])", "band", "bd", "tome", "tomo", "deel"),
    "part": ("parts?", "pts?", "teil", "parte", "partie"),
    "book": ("books?", "bks?", "buch", "livre", "libro"),
    "": ("[#]",),
}
_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_ROMAN = re.findall(r"\w+", "i ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi xvii xviii xix xx")
_NUMBERS = {word: str(number) for words in (_WORDS, _ROMAN) for number, word in enumerate(words, start=1)}
_KIND = "|".join(f"(?P<{kind or 'bare'}>{'|'.join(words)})" for kind, words in _KINDS.items())
_MARK = re.compile(
    rf"""(?:(?<![^\W_])|(?=[#]))(?:{_KIND})\.?\s*
    (?P<number>[0-9]{{1,4}}(?:\.[0-9]{{1,2}})?(?:\s*[-\u2013&/]\s*[0-9]{{1,4}})?
        |{"|".join(_WORDS)}|(?:{"|".join(word for word in _ROMAN if len(word) > 1)})
        |[ivx](?=\s*(?:$|[:.,;()\[\]\u2013\u2014/-])))
    (?![^\W_])(?:\s+of\s+[0-9]{{1,4}}(?![^\W_]))?(?!\s+(?:of|in)\s)""",
    re.IGNORECASE | re.VERBOSE,
)
"""A number of a volume or part: `Vol. 2`, `Part Two`, `Book II`, `#2`. Not `Book One of the Saga`: it is in a saga."""

_HINT = re.compile("|".join("#0123456789") + "|part|vol|book|pt|bk|teil|band|bd|tom|buch|livre|libro|deel")
"""In every text with a number of a volume or part. It costs less than _MARK, and few titles have it."""

_BRACKETS = re.compile(r"[(\[{]([^()\[\]{}]*)[)\]}]")
_LAST_NUMBER = re.compile(r"(?P<series>.*[^\W\d_].*?)(?P<between>[\s,;:]+)(?P<number>[0-9]{1,3})\s*$")
_MAX_SERIES = 200  # characters; it bounds the time that _LAST_NUMBER takes
_WORD = re.compile(r"[^\W_]+")
_FORMATS = _words_of(
    """
    paperback paperbacks hardcover hardback softcover softback mass market trade kindle ebook e epub pdf audio audiobook
    audible cd cds mp3 dvd large print type board library binding leather bound spiral unabridged reprint reissue
    illustrated annotated revised updated enlarged expanded new deluxe anniversary special collector collectors s
    international edition editions edn ed first second third fourth fifth sixth seventh eighth ninth tenth
    ciltli taschenbuch gebunden horbuch hörbuch ausgabe auflage poche broché relié tapa blanda dura
    """
)
_ORDINAL = re.compile(r"[0-9]+(?:st|nd|rd|th|e|ª|º)?")
_SERIES = _words_of("series saga trilogy chronicles cycle quartet duology tetralogy sequence novels mysteries universe")
_ENDS = _SERIES | _words_of(
    """
    classics library press books paperbacks edition editions ed edn masterworks perennial international contemporaries
    publishing publishers publications
    """
)
_HOUSES = frozenset({"penguin", "puffin", "picador", "virago", "bantam", "scholastic", "pelican", "gollancz"})
_OTHER_WORKS = _words_of(
    """
    abridged condensed adapted complete collected selected omnibus boxed box set teacher teachers student students
    instructor instructors study workbook teaching young manga graphic comic comics in
    """
)
"""A bracket with one of these words names another work: `(Teacher's Edition)`, `(3-in-1 Edition)`."""


def numbered(text: str) -> str:
    """The text with every number of a volume or part written in one way: `volume 2`."""
    return _MARK.sub(lambda match: f" {_written(match)} ", text) if _HINT.search(text.lower()) else text


def numbers(text: str) -> list[str]:
    """The numbers of volumes and parts in a text, written in that way."""
    return [_written(match) for match in _MARK.finditer(text)] if _HINT.search(text.lower()) else []


def without_notes(title: str) -> str:
    """The title without brackets that say the series, the imprint or the format; as it is when nothing else is in it.

    A number from 2 in the bracket of a series of the same name stays, because it is the volume: `Fables (Fables, #2)`.
    So does any number after a format: `Fables (Deluxe Edition, Book 1)`. A number after other words does not make them
    a series: `Algebra (Grade 7)`, `Sandman (1 of 10)`.
    """
    if not any(bracket in title for bracket in "([{"):
        return title
    bare = _BRACKETS.sub(" ", title)
    if not _WORD.search(bare):
        return title
    outside = _words(bare)
    return _BRACKETS.sub(lambda match: _kept(match[1], outside), title)


def _kept(inner: str, outside: list[str]) -> str:
    """What stays of a bracket. `outside`: the words of the title outside of all brackets."""
    mark = _MARK.search(inner)
    series, number = (inner[: mark.start()], _written(mark)) if mark else ("", "")
    if mark and not _WORD.search(_MARK.sub(" ", inner)):
        return f" {inner} "
    last = None if mark else _LAST_NUMBER.fullmatch(inner.strip()[:_MAX_SERIES])
    if last and (last["between"].strip() or _is_series(_words(last["series"]), outside)):
        series, number = last["series"], last["number"]
    if words := _words(series):
        is_further = number.split()[-1] != "1" and words == outside
        return f" {number if ' ' in number else f'volume {number}'} " if is_further or _is_format(words) else " "
    words = _words(inner)
    return " " if words == outside[: len(words)] or _is_note(words) else f" {inner} "


def _is_series(words: list[str], outside: list[str]) -> bool:
    """Whether words before a number are surely the name of a series: the title begins with them, or they say so."""
    return bool(words) and (words == outside[: len(words)] or words[-1] in _SERIES)


def _is_note(words: list[str]) -> bool:
    if not words or not _OTHER_WORKS.isdisjoint(words):
        return False
    if words[0] in _HOUSES or (len(words) > 1 and words[-1] in _ENDS):
        return True
    return _is_format(words)


def _is_format(words: list[str]) -> bool:
    return all(word in _FORMATS or _ORDINAL.fullmatch(word) for word in words) and not all(map(str.isdigit, words))


def _words(text: str) -> list[str]:
    words = _WORD.findall(text.casefold())
    return words[1:] if len(words) > 1 and words[0] in ("the", "a", "an") else words


def _written(match: re.Match[str]) -> str:
    kind = next((kind for kind in _KINDS if kind and match[kind]), "")
    number = match["number"].casefold()
    number = _NUMBERS.get(number) or number.lstrip("0") or "0"
    return f"{kind} {number}".lstrip()
