"""ISBNdb's endpoints. What they are asked comes in parsed, what they answer goes out as an `Answer`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qs, unquote

from alexandria.development.sandbox import answers, catalogue, feed, isbns, listings
from alexandria.development.sandbox.catalogue import Facts
from alexandria.development.sandbox.listings import Filters, Listing
from alexandria.development.sandbox.meter import Meter, Request

MOST_BYTES = 6 * 1024 * 1024  # a longer answer is a 500
MOST_ON_A_PAGE = 1000
_LONGEST_NAME = 150
_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, what is sent as JSON (bytes are sent as they are), and further headers."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body, ensure_ascii=False).encode()


class Refused(Exception):
    """The request cannot be answered: a status and ISBNdb's ErrorResponse."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.answer = Answer(status, {"message": message, "error_message": message})


@dataclass(frozen=True, slots=True)
class Call:
    """A request with its body and the figures that the answers need."""

    request: Request
    content_type: str
    body: bytes
    meter: Meter
    host: str
    max_batch: int

    def parameters(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(self.request.query).items()}


def answer(call: Call) -> Answer:
    """Answers a call that carries the key and is within the limits; notes how many ISBNs were asked and found."""
    parts = [unquote(part) for part in call.request.path.split("/")[1:]]
    try:
        match call.request.method, parts:
            case "POST", ["books"]:
                found = _books(call)
            case "GET", ["book", isbn] if isbn:
                found = _book(isbn)
            case "GET", ["author", name] if name:
                found = _author(call, name)
            case "GET", ["books", query] if query:
                found = _query(call, query)
            case "GET", ["search", "books"]:
                found = _search(call)
            case "GET", ["key"]:
                found = _key(call)
            case "GET", ["feeds", "books", "updates"]:
                found = _updates(call)
            case _:
                return Refused(404, "Not Found").answer
    except Refused as refused:
        return refused.answer
    body = Answer(200, found).content()
    if len(body) > MOST_BYTES:
        return Answer(500, {"message": "Internal server error"})
    return Answer(200, body)


def _books(call: Call) -> Any:
    asked = _asked(call)
    call.request.asked = len(asked)
    if not 1 <= len(asked) <= call.max_batch:
        raise Refused(400, f"isbns must hold from 1 to {call.max_batch} ISBNs, not {len(asked)}")
    wanted = {isbn for raw in asked if (isbn := isbns.parse(raw))}
    found = [book for isbn in sorted(wanted, key=_shuffled) if (book := catalogue.find(isbn))]
    call.request.found = len(found)
    return {"total": len(found), "requested": len(asked), "data": _as_sent(found)}


def _asked(call: Call) -> list[str | int]:
    """The ISBNs of POST /books: JSON (list or object) or a form (`isbns=…,…`, repeated, `isbns[]=…`, `isbns[0]=…`)."""
    try:
        if "json" in call.content_type or call.body.lstrip()[:1] in (b"{", b"["):
            payload = json.loads(call.body)
            asked = payload.get("isbns") if isinstance(payload, dict) else None
        else:
            form = parse_qs(call.body.decode())
            fields = [values for name, values in form.items() if name.partition("[")[0] == "isbns"]
            asked = [isbn for values in fields for value in values for isbn in value.split(",")] if fields else None
    except ValueError as error:
        raise Refused(400, "The body is neither JSON nor a form") from error
    if isinstance(asked, dict):
        asked = list(asked.values())
    if not isinstance(asked, list):
        raise Refused(400, "isbns must be a list or an object")
    if not all(isinstance(isbn, str | int) and not isinstance(isbn, bool) for isbn in asked):
        raise Refused(400, "isbns must hold texts or whole numbers")
    return asked


def _shuffled(isbn: str) -> bytes:
    return blake2b(isbn.encode(), digest_size=8).digest()


def _book(raw: str) -> Any:
    isbn = isbns.parse(raw)
    found = catalogue.find(isbn) if isbn else None
    if found is None:
        raise Refused(404, "Not Found")
    return {"book": answers.book(found)}


def _author(call: Call, name: str) -> Any:
    if catalogue.name_key(_named(name)) == catalogue.name_key(catalogue.UNKNOWN_AUTHOR):
        raise Refused(404, "Not Found")
    listing = listings.of_author(name)
    books, total, page, page_size = _page(call, listing)
    told = {"total": total} if listing.tells_total else {}
    return {"author": listing.name, "name": listing.name, "books": books, **told, "page": page, "page_size": page_size}


def _query(call: Call, query: str) -> Any:
    column = call.parameters().get("column", "")
    if column not in {"", "title", "author", "date_published", "subjects"}:
        raise Refused(400, f"column must be title, author, date_published or subjects, not {column}")
    month = call.parameters().get("publishedFrom", "")
    if column == "subjects" and month and month == call.parameters().get("publishedTo"):
        listing, subject = listings.of_query(month, "date_published"), _named(query)
    else:
        listing, subject = listings.of_query(_named(query), column), ""
    books, total, _, _ = _page(call, listing, subject=subject)
    return {"total": total, "books": books}


def _search(call: Call) -> Any:
    asked = call.parameters()
    if raw := asked.get("isbn13") or asked.get("isbn"):
        isbn = isbns.parse(raw)
        found = catalogue.find(isbn) if isbn else None
        listing = Listing(name=raw, real=(found,) if found else (), slots=())
    elif author := asked.get("author"):
        listing = listings.of_author(_named(author))
    elif text := asked.get("text") or asked.get("subject") or asked.get("publisher"):
        listing = listings.of_query(_named(text), "")
    else:
        raise Refused(400, "one of isbn, isbn13, author, text, subject and publisher is needed")
    books, total, page, page_size = _page(call, listing)
    return {"data": books, "total": total, "page": page, "page_size": page_size}


def _key(call: Call) -> Any:
    total, spent = call.meter.daily_limit, call.meter.spent()
    return {"api_host": call.host, "plan_limit": {"total": total, "spent": spent, "left": max(0, total - spent)}}


def _updates(call: Call) -> Any:
    asked = call.parameters()
    page, size = _whole(asked, "page", 1, 1_000_000), _whole(asked, "pageSize", 100, MOST_ON_A_PAGE)
    now = datetime.fromtimestamp(call.meter.now(), UTC)
    try:
        since = date.fromisoformat(asked.get("lastUpdated", str(now.date() - feed.HISTORY)))
    except ValueError as error:
        raise Refused(400, f"lastUpdated must be YYYY-MM-DD, not {asked['lastUpdated']}") from error
    changed = feed.updates(since, now)[(page - 1) * size : page * size]
    data = [{"isbn13": isbn13, "updated_at": moment.isoformat()} for isbn13, moment in changed]
    return {"data": data, "page": page, "page_size": size}


def _page(call: Call, listing: Listing, *, subject: str = "") -> tuple[list[answers.Json], int, int, int]:
    """The books of the page that is asked for, how many there are in all, the page and its size."""
    asked = call.parameters()
    page, size = _whole(asked, "page", 1, 1_000_000), _whole(asked, "pageSize", 20, MOST_ON_A_PAGE)
    filters = Filters(
        language=asked.get("language", ""),
        published_from=_dated(asked, "publishedFrom"),
        published_to=_dated(asked, "publishedTo"),
        year=asked.get("year", ""),
        subject=subject,
    )
    books, total = listing.page(page, size, filters)
    return _as_sent(books), total, page, size


def _as_sent(books: list[Facts]) -> list[answers.Json]:
    return [answers.book(book) for book in books]


def _named(name: str) -> str:
    if len(name) > _LONGEST_NAME:
        raise Refused(400, f"at most {_LONGEST_NAME} characters can be searched for")
    return name


def _whole(asked: dict[str, str], name: str, default: int, most: int) -> int:
    value = asked.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", value) or not 1 <= int(value) <= most:
        raise Refused(400, f"{name} must be a whole number from 1 to {most}, not {value}")
    return int(value)


def _dated(asked: dict[str, str], name: str) -> str:
    value = asked.get(name, "")
    if value and not _DATE.fullmatch(value):
        raise Refused(400, f"{name} must be YYYY, YYYY-MM or YYYY-MM-DD, not {value}")
    return value
