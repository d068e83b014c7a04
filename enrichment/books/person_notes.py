"""What catalogues write beside a name: years of a life (`King, Stephen, 1947-`) and roles (`Neil Gaiman (Author)`)."""

import re

_ROLE_WORDS = """
    author authors auteur autor autora autore writer writers editor editors ed eds hrsg herausgeber illustrator
    illustrators illustrateur ilustrador illus ill translator translators trans tr traducteur traductor traduttore
    übersetzer narrator narrators narrated reader readers read foreword introduction intro preface afterword contributor
    contributors photographer photographs compiler comp adapter creator artist coauthor designer joint goodreads
    """
_ROLES = frozenset(_ROLE_WORDS.replace("\n", " ").split())
_JOINING = frozenset({"of", "and", "by", "the", "with", "a", "co", "other", "cover"})  # never a role alone
_YEAR = r"(?:\d{3,4}\b\??(?:\s*(?:b\.?c\b|a\.?d\b|c\.?e\b)(?:\.?e\b)?)?|\d{1,2}\s*b\.?c\b(?:\.?e\b)?)\.?"
_YEARS = re.compile(
    rf"(?<!\w)(?:(?:b|d|c|ca|fl|born|died|circa)\b\.?\s*){{0,3}}{_YEAR}"
    rf"(?:\s*[-\u2013\u2014]\s*(?:(?:c|ca|circa)\b\.?\s*)?{_YEAR}|\s*[-\u2013\u2014])?",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"\(([^()\[\]]*)\)|\[([^()\[\]]*)\]")
_OPEN_YEARS = re.compile(r"\s\d{4}\s*[-\u2013\u2014](?:\s*\d{4})?(?:\s*\.)?$")
"""`King, Stephen 1947-`: without a comma, only years with a dash are a life."""


def is_note(text: str) -> bool:
    """Whether the text is only years and roles: `1947-`, `b. 1947`, `author`, `1965- , Illustrator`."""
    words = re.findall(r"[^\W\d_]+|\d+", _YEARS.sub(" ", text).casefold())
    if words:
        return not _ROLES.isdisjoint(words) and all(word in _ROLES or word in _JOINING for word in words)
    return any(map(str.isdigit, text))


def without_notes(name: str) -> str:
    """The name without notes in brackets and at its end; as it is when nothing else is in it."""
    if name.isalpha():
        return name
    kept = _OPEN_YEARS.sub("", "".join(between_notes(name)).strip())
    parts = kept.split(",")
    while len(parts) > 1 and (not parts[-1].strip() or (is_note(parts[-1]) and not _is_ed(*parts))):
        parts.pop()
    return ",".join(parts).strip() or name


def _is_ed(last: str, first: str, *others: str) -> bool:
    """Whether these parts of a name between commas are `McBain, Ed`, and not `John Smith, ed.`"""
    return first.strip() == "Ed" and len(last.split()) == 1 and not others


def between_notes(text: str) -> list[str]:
    """The parts of the text before, between and after its notes in brackets."""
    notes = [match.span() for match in _BRACKETS.finditer(text) if is_note(match[1] or match[2] or "")]
    starts, ends = [0, *(end for _, end in notes)], [*(start for start, _ in notes), len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]
