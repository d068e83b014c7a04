"""A stored book as a record of MARC 21, in its exchange format (ISO 2709, UTF-8) and as MARCXML.

docs/exports.md says which field holds what. Both forms have the same record, with the limits of ISO 2709: a long text
is cut, and what does not fit into a record, the least important first, is left out.
"""

import re
from collections.abc import Iterator
from html import unescape
from xml.etree import ElementTree as ET

from pymarc import Field, Indicators, Record, Subfield
from pymarc.marcxml import record_to_xml_node

from enrichment.exports.languages import UNKNOWN, marc_language
from enrichment.models import Edition

MAX_FIELD = 9_999
"""Bytes of a field: its length has four digits in the directory."""
MAX_RECORD = 99_999
"""Bytes of a record: its length has five digits in the leader."""
LEADER_AND_ENDS = 24 + 2
DIRECTORY_ENTRY = 12
OVERHEAD = 2 + 1
"""Bytes of a field beside its subfields: its indicators and its end."""

COLLECTION = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<collection xmlns="http://www.loc.gov/MARC21/slim">\n',
    b"</collection>\n",
)
"""The beginning and the end of a MARCXML file."""
AGENCY = "Alexandria"
NO_TITLE = "[untitled]"
CUT = "…"

_SPACES = re.compile("[\t-\r\x85\u2028\u2029 ]+")
# What XML forbids, which includes the separators of ISO 2709, and the other controls, which MARC reserves.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_TAG = re.compile(r"<[a-z/!][^<>]*>", re.IGNORECASE)
_SUBTITLE = re.compile(r" ?: | [-–—] ")
_AUDIO = re.compile(r"audio|audible|mp3", re.IGNORECASE)
_ONLINE = re.compile(r"e-?book|kindle|epub|digital", re.IGNORECASE)
_ARTICLES = {
    language: re.compile(rf"(?:{articles})(?=\S)", re.IGNORECASE)
    for language, articles in {
        "eng": "the |an? ",
        "dut": "de |het |een ",
        "fre": "les? |la |une? |l['’]",
        "ger": "der |die |das |eine? ",
        "ita": "il |lo |la |gli |le |i |un[ao]? |l['’]|un['’]",
        "por": "os? |as? |uma? ",
        "spa": "el |l[ao]s? |una? ",
    }.items()
}
"""By language, how a title begins whose first word does not count in the order of titles."""


def marc21(edition: Edition) -> bytes:
    """The record in ISO 2709, at most MAX_RECORD bytes. The edition is as for `BookFormat.book`."""
    return record(edition).as_marc()


def marcxml(edition: Edition) -> bytes:
    """The record as a `record` element of MARCXML, for a `collection` that names the namespace."""
    node: ET.Element = record_to_xml_node(record(edition))  # type: ignore[no-untyped-call]
    return ET.tostring(node, encoding="unicode").encode() + b"\n"


def record(edition: Edition) -> Record:
    """The book as a record of MARC 21 with its fields in the order of their tags."""
    room = MAX_RECORD - LEADER_AND_ENDS
    fields = []
    for field in _fields(edition):
        size = DIRECTORY_ENTRY + len(field.as_marc("utf-8"))
        if size <= room:
            room -= size
            fields.append(field)
    kind = "i" if _AUDIO.search(edition.binding) else "a"
    # A new record, a monograph in Unicode; an abbreviated level, because nobody has seen the book; not by ISBD.
    leader = f"00000n{kind}m a22000003u 4500"
    return Record(fields=sorted(fields, key=lambda field: field.tag), force_utf8=True, leader=leader)


def plain(text: str) -> str:
    """The text in one line, without characters that XML or MARC forbids."""
    return _FORBIDDEN.sub("", _SPACES.sub(" ", text)).strip()


def _fields(edition: Edition) -> Iterator[Field]:
    """The fields, the most important first."""
    language = marc_language(edition.language)
    names = [plain(link.author.name) for link in edition.author_links.all()]
    yield Field("001", data=edition.isbn13)
    yield Field("003", data=AGENCY)
    yield Field("005", data=f"{edition.updated_at:%Y%m%d%H%M%S}.0")
    yield Field("008", data=_fixed_data(edition, language))
    yield from _field("020", "  ", a=edition.isbn13, q=edition.binding, c=str(edition.msrp or ""))
    yield from _field("020", "  ", a=edition.isbn10)
    yield from _field("040", "  ", a=AGENCY, b="eng", c=AGENCY)
    yield from _titles(edition, language, has_author=any(names))
    for position, name in enumerate(filter(None, names)):
        # Names come as "Andy Weir" or "Weir, Andy". The indicator says which of the two it is.
        yield from _field("700" if position else "100", "1 " if "," in name else "0 ", a=name)
    yield from _field("250", "  ", a=edition.edition)
    yield from _field("264", " 1", b=edition.publisher, c=edition.published[:4])
    yield from _field("300", "  ", a=f"{edition.pages} pages" if edition.pages else "", c=edition.dimensions)
    if language == UNKNOWN:
        yield from _field("546", "  ", a=edition.language)
    for number in edition.dewey_decimal:
        yield from _field("082", "04", a=number)
    image = plain(edition.image)
    if image and len(image.encode()) < MAX_FIELD // 2:  # a part of an address is none
        yield from _field("856", "42", **{"3": "Cover image", "u": image})
    yield from _field("520", "  ", a=_without_html(edition.synopsis))
    yield from _field("520", "  ", a=_without_html(edition.overview))
    yield from _field("520", "8 ", a=_without_html(edition.excerpt))
    for subject in edition.subjects:
        yield from _field("653", "  ", a=subject)
    for isbn in edition.other_isbns:
        yield from _field("776", "08", i="Other form", z=isbn)


def _fixed_data(edition: Edition, language: str) -> str:
    """Field 008: 40 characters, each with its own meaning. A bar says that nothing is known."""
    published = edition.published.replace("-", "")
    year, rest = published[:4], published[4:]
    dates = f"e{year}{rest:4}" if rest else f"s{year}    " if year else "nuuuuuuuu"
    is_audio = bool(_AUDIO.search(edition.binding))
    form = "o" if _ONLINE.search(edition.binding) else "|"
    kind = f"|||||{form}||||||||"
    # Place 34 is about biographies in a book; a recording has nothing there.
    return f"{edition.created_at:%y%m%d}{dates}xx {kind} |{' ' if is_audio else '|'}{language} d"


def _titles(edition: Edition, language: str, *, has_author: bool) -> Iterator[Field]:
    """The title with its subtitle, and the long title if that says something else."""
    title, long_title = plain(edition.title), plain(edition.title_long)
    main, subtitle, said = title, "", title
    is_longer = long_title[: len(title)].casefold() == title.casefold()
    if is_longer and (split := _SUBTITLE.match(long_title, len(title))):
        subtitle, said = long_title[split.end() :], long_title
    elif (split := _SUBTITLE.search(title)) and split.start():
        main, subtitle = title[: split.start()], title[split.end() :]
    article = _ARTICLES.get("eng" if language == UNKNOWN else language)
    skipped = article.match(main) if article else None
    added = "1" if has_author else "0"
    yield from _field("245", f"{added}{skipped.end() if skipped else 0}", a=main or NO_TITLE, b=subtitle)
    if long_title not in {"", said}:
        yield from _field("246", "3 ", a=long_title)


def _without_html(text: str) -> str:
    return unescape(_TAG.sub(" ", text))


def _field(tag: str, indicators: str, **subfields: str) -> Iterator[Field]:
    """The field with the subfields that have a text, each cut to its share of MAX_FIELD; none if all are empty."""
    given = {code: text for code, text in ((code, plain(text)) for code, text in subfields.items()) if text}
    if given:
        share = (MAX_FIELD - OVERHEAD) // len(given) - 2
        yield Field(tag, Indicators(*indicators), [Subfield(code, _cut(text, share)) for code, text in given.items()])


def _cut(text: str, size: int) -> str:
    """The text in at most `size` bytes, with a sign at the end if it is cut."""
    encoded = text.encode()
    if len(encoded) <= size:
        return text
    return encoded[: size - len(CUT.encode())].decode(errors="ignore") + CUT
