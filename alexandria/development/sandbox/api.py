"""ISBNdb's endpoints. A handler gets a parsed `Call` and returns the JSON of the `Answer`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qs, unquote

from alexandria.development.sandbox import answers, catalogue, feed, isbns, listings
from alexandria.development.sandbox.catalogue import CatalogueBook
from alexandria.development.sandbox.listings import Filters, Listing
from alexandria.development.sandbox.meter import Meter, Request

MAX_ANSWER_BYTES = 6 * 1024 * 1024  # ISBNdb answers 500 instead of a longer answer
MAX_PAGE_SIZE = 1000
MAX_NAME_LENGTH = 150
_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body and extra headers. The body is sent as JSON; bytes are sent unchanged."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body, ensure_ascii=False).encode()


class Refused(Exception):
    """The request is refused, with a status and ISBNdb's ErrorResponse."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.answer = Answer(status, {"message": message, "error_message": message})


@dataclass(frozen=True, slots=True)
class Call:
    """A request with its body, and the state that the answers need."""

    request: Request
    content_type: str
    body: bytes
    meter: Meter
    host: str
    max_batch: int
    miscount: int = 0

    def parameters(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(self.request.query).items()}


def answer(call: Call) -> Answer:  # noqa: C901 (a list of endpoints)
    """Answers a call that has the key and is within the limits. Records how many ISBNs were requested and found."""
    parts = [unquote(part) for part in call.request.path.split("/")[1:]]
    try:
        match call.request.method, parts:
            case "POST", ["books"]:
                found = _batch(call)
            case "GET", ["book", isbn] if isbn:
                found = _book(isbn)
            case "GET", ["author", name] if name:
                found = _author(call, name)
            case "GET", ["publisher" | "subject" as kind, name] if name:
                found = _named(call, kind, name)
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
    if len(body) > MAX_ANSWER_BYTES:
        return Answer(500, {"message": "Internal server error"})
    return Answer(200, body)


def batch_size(method: str, path: str, content_type: str, body: bytes) -> int | None:
    """The number of ISBNs in a batch. None for another request, and for a body that cannot be read."""
    if (method, path) != ("POST", "/books"):
        return None
    try:
        return len(_requested_isbns(content_type, body))
    except Refused:
        return None


def _batch(call: Call) -> Any:
    requested = _requested_isbns(call.content_type, call.body)
    if not 1 <= len(requested) <= call.max_batch:
        raise Refused(400, f"isbns must have from 1 to {call.max_batch} ISBNs, not {len(requested)}")
    wanted = {isbn for raw in requested if (isbn := isbns.parse(raw))}
    found = [book for isbn in sorted(wanted, key=_shuffled) if (book := catalogue.find(isbn))]
    call.request.found = len(found)
    return {"total": len(found), "requested": len(requested), "data": _json(found)}


def _requested_isbns(content_type: str, body: bytes) -> list[str | int]:
    """The ISBNs of POST /books: JSON (list or object) or a form (`isbns=…,…`, repeated, `isbns[]=…`, `isbns[0]=…`)."""
    try:
        if "json" in content_type or body.lstrip()[:1] in (b"{", b"["):
            payload = json.loads(body)
            found = payload.get("isbns") if isinstance(payload, dict) else None
        else:
            form = parse_qs(body.decode())
            fields = [values for name, values in form.items() if name.partition("[")[0] == "isbns"]
            found = [isbn for values in fields for value in values for isbn in value.split(",")] if fields else None
    except ValueError as error:
        raise Refused(400, "The body is neither JSON nor a form") from error
    if isinstance(found, dict):
        found = list(found.values())
    if not isinstance(found, list):
        raise Refused(400, "isbns must be a list or an object")
    if not all(isinstance(isbn, str | int) and not isinstance(isbn, bool) for isbn in found):
        raise Refused(400, "isbns must have strings or whole numbers")
    return found


def _shuffled(isbn: str) -> bytes:
    return blake2b(isbn.encode(), digest_size=8).digest()


def _book(raw: str) -> Any:
    isbn = isbns.parse(raw)
    found = catalogue.find(isbn) if isbn else None
    if found is None:
        raise Refused(404, "Not Found")
    return {"book": answers.book_json(found)}


def _author(call: Call, name: str) -> Any:
    if catalogue.name_key(_search_term(name)) == catalogue.name_key(catalogue.UNKNOWN_AUTHOR):
        raise Refused(404, "Not Found")
    listing = listings.of_author(name)
    books, total, page, page_size = _page(call, listing)
    totals = {"total": total} if listing.has_total else {}
    return {
        "author": listing.name,
        "name": listing.name,
        "books": books,
        **totals,
        "page": page,
        "page_size": page_size,
    }


def _named(call: Call, kind: str, name: str) -> Any:
    """The books of a publisher or a subject."""
    column = "subjects" if kind == "subject" else "publisher"
    books, total, page, page_size = _page(call, listings.of_query(_search_term(name), column))
    subject = {"subject": name} if kind == "subject" else {}
    return {**subject, "name": name, "books": books, "total": total, "page": page, "page_size": page_size}


def _query(call: Call, query: str) -> Any:
    column = call.parameters().get("column", "")
    if column not in {"", "title", "author", "date_published", "subjects"}:
        raise Refused(400, f"column must be title, author, date_published or subjects, not {column}")
    month = call.parameters().get("publishedFrom", "")
    if column == "subjects" and month and month == call.parameters().get("publishedTo"):
        listing, subject = listings.of_query(month, "date_published"), _search_term(query)
    else:
        listing, subject = listings.of_query(_search_term(query), column), ""
    books, total, _, _ = _page(call, listing, subject=subject)
    return {"total": total, "books": books}


def _search(call: Call) -> Any:
    parameters = call.parameters()
    if raw := parameters.get("isbn13") or parameters.get("isbn"):
        isbn = isbns.parse(raw)
        found = catalogue.find(isbn) if isbn else None
        listing = Listing(name=raw, real=(found,) if found else (), slots=())
    elif author := parameters.get("author"):
        listing = listings.of_author(_search_term(author))
    elif text := parameters.get("text") or parameters.get("subject") or parameters.get("publisher"):
        listing = listings.of_query(_search_term(text), "")
    else:
        raise Refused(400, "one of isbn, isbn13, author, text, subject and publisher is required")
    books, total, page, page_size = _page(call, listing)
    return {"data": books, "total": total, "page": page, "page_size": page_size}


def _key(call: Call) -> Any:
    total, spent = call.meter.daily_limit, max(0, call.meter.reported() + call.miscount)
    return {"api_host": call.host, "plan_limit": {"total": total, "spent": spent, "left": max(0, total - spent)}}


def _updates(call: Call) -> Any:
    parameters = call.parameters()
    page, size = _whole(parameters, "page", 1, 1_000_000), _whole(parameters, "pageSize", 100, MAX_PAGE_SIZE)
    now = datetime.fromtimestamp(call.meter.now(), UTC)
    try:
        since = date.fromisoformat(parameters.get("lastUpdated", str(now.date() - feed.HISTORY)))
    except ValueError as error:
        raise Refused(400, f"lastUpdated must be YYYY-MM-DD, not {parameters['lastUpdated']}") from error
    changed = feed.updates(since, now)[(page - 1) * size : page * size]
    data = [{"isbn13": isbn13, "updated_at": moment.isoformat()} for isbn13, moment in changed]
    return {"data": data, "page": page, "page_size": size}


def _page(call: Call, listing: Listing, *, subject: str = "") -> tuple[list[answers.Json], int, int, int]:
    """The books of the requested page, the total number of books, the page and its size."""
    parameters = call.parameters()
    page, size = _whole(parameters, "page", 1, 1_000_000), _whole(parameters, "pageSize", 20, MAX_PAGE_SIZE)
    filters = Filters(
        language=parameters.get("language", ""),
        published_from=_dated(parameters, "publishedFrom"),
        published_to=_dated(parameters, "publishedTo"),
        year=parameters.get("year", ""),
        subject=subject,
    )
    books, total = listing.page(page, size, filters)
    return _json(books), total, page, size


def _json(books: list[CatalogueBook]) -> list[answers.Json]:
    return [answers.book_json(book) for book in books]


def _search_term(name: str) -> str:
    if len(name) > MAX_NAME_LENGTH:
        raise Refused(400, f"a search can have at most {MAX_NAME_LENGTH} characters")
    return name


def _whole(parameters: dict[str, str], name: str, default: int, maximum: int) -> int:
    value = parameters.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", value) or not 1 <= int(value) <= maximum:
        raise Refused(400, f"{name} must be a whole number from 1 to {maximum}, not {value}")
    return int(value)


def _dated(parameters: dict[str, str], name: str) -> str:
    value = parameters.get(name, "")
    if value and not _DATE.fullmatch(value):
        raise Refused(400, f"{name} must be YYYY, YYYY-MM or YYYY-MM-DD, not {value}")
    return value
