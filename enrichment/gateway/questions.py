"""What ISBNdb can be asked: a request, what it costs, and how its answer is read. Nothing here sends anything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import httpx2
import msgspec
import structlog
from msgspec.structs import replace

from enrichment.books.decoding import Answer, decode_books
from enrichment.exceptions import IsbndbError, IsbndbNotFound
from enrichment.gateway.connection import new_request
from quota.prices import RequestKind
from quota.services.reservations import DispatchedCall
from quota.spending import Payer

log = structlog.get_logger(__name__)

ATTEMPTS = 3
MIN_PAGE_SIZE = 125  # books; a smaller answer cannot be too large, so its failure has another cause
KEY_PATH = "/key"

Decoded = TypeVar("Decoded")


@dataclass(eq=False)
class Question(Generic[Decoded]):
    """What ISBNdb is asked. Each attempt to send it is a request with a price of its own, which `payer` pays.

    `kind`: for the price. `decode` turns a body into the result; `count` returns its number of books.
    `isbns`: the ISBN-13s of a batch. `may_be_too_large`: a status 500 means "ask for less", and is the failure
    IsbndbPageTooLarge.
    """

    kind: RequestKind
    request: httpx2.Request
    decode: Callable[[bytes], Decoded]
    payer: Payer
    isbns: Sequence[str] | None = None
    count: Callable[[Decoded], int] | None = None
    may_be_too_large: bool = False
    attempts: int = ATTEMPTS

    @property
    def isbns_asked(self) -> int | None:
        """The size of a batch, for the journal."""
        return None if self.isbns is None else len(self.isbns)


@dataclass(frozen=True)
class Exchanged(Generic[Decoded]):
    """A question that is over, with its last request. It has either an answer or a failure."""

    question: Question[Decoded]
    call: DispatchedCall
    answer: Decoded | None = None
    failure: IsbndbError | None = None

    @property
    def is_answered(self) -> bool:
        """Whether ISBNdb has answered, also that it does not know a name."""
        return self.failure is None or isinstance(self.failure, IsbndbNotFound)


@dataclass(frozen=True)
class KeyUsage:
    """ISBNdb's own counter, in calls."""

    total: int
    spent: int
    left: int


def batch_of(isbns: Sequence[str], payer: Payer) -> Question[Answer]:
    """Up to ISBNDB_BATCH_SIZE ISBN-13s at once. The answer lacks those that ISBNdb does not know.

    Books that were not asked for are dropped. If the failure is IsbndbPageTooLarge, ask for fewer.
    """
    wanted = frozenset(isbns)

    def decode(body: bytes) -> Answer:
        answer = decode_books(body, key="data")
        asked_for = [book for book in answer.books if book.isbn13 in wanted]
        if unasked := len(answer.books) - len(asked_for):
            log.warning("isbndb.unasked_books", books=unasked)
        return replace(answer, books=asked_for)

    return Question(
        RequestKind.BATCH,
        new_request("POST", "/books", json={"isbns": list(isbns)}),
        decode,
        payer,
        isbns=isbns,
        count=lambda answer: len(answer.books),
        may_be_too_large=len(isbns) > MIN_PAGE_SIZE,
    )


def key_usage(payer: Payer, *, attempts: int = ATTEMPTS) -> Question[KeyUsage]:
    """ISBNdb's own counter."""
    return Question(RequestKind.KEY, new_request("GET", KEY_PATH), _decode_key_usage, payer, attempts=attempts)


def _decode_key_usage(body: bytes) -> KeyUsage:
    class Answered(msgspec.Struct):
        plan_limit: KeyUsage

    return msgspec.json.decode(body, type=Answered).plan_limit
