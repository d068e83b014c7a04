"""Enriching: from ISBNs in any form to stored editions, with as few calls as can be."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.conf import settings

from enrichment import selectors
from enrichment.books.decoding import Answer
from enrichment.books.storage import remember_misses, store_books
from enrichment.exceptions import ENDINGS, EnrichmentStopped, IsbndbPageTooLarge
from enrichment.gateway import client
from enrichment.isbn.parsing import InvalidEntry, parse_many
from enrichment.services.stop_reasons import in_our_words
from quota.spending import Spender, spending

DOUBTFUL_MISS_DAYS = 1
"""How long it is remembered that ISBNdb does not know an ISBN when a book of the same answer could not be read."""


@dataclass(frozen=True)
class FailedIsbn:
    """Something for which nothing is stored: an ISBN, or what ISBNdb's book gave for one; None when it gave none."""

    isbn: str | None
    error: str


@dataclass
class Enrichment:
    """What came of a list of ISBNs.

    Every distinct valid ISBN is one of: already_fresh, enriched (= created + updated + unchanged), not_found, failed.
    """

    requested: int
    """Values given."""
    valid: int
    """Distinct ISBNs among them."""
    invalid: list[InvalidEntry]
    already_fresh: int = 0
    """Stored before and recent enough: no call."""
    found: int = 0
    """Asked for now, and known to ISBNdb."""
    enriched: int = 0
    """Of those found, stored: created, updated, or the same as before."""
    created: int = 0
    updated: int = 0
    not_found_isbns: list[str] = field(default_factory=list)
    """Unknown to ISBNdb, now or when last asked."""
    failed: int = 0
    errors: list[FailedIsbn] = field(default_factory=list)
    api_calls: int = 0
    """Calls spent, retries included."""

    @property
    def not_found(self) -> int:
        return len(self.not_found_isbns)


def enrich_isbns(values: Iterable[str | int], *, consumer: str, source: str = "", refresh: bool = False) -> Enrichment:
    """Stores what ISBNdb knows of the ISBNs, at one call per ISBNDB_BATCH_SIZE of those that have to be asked for.

    `consumer`: the slug of who pays. `source`: what it is for, for the record. Editions that are fresh
    (EDITION_FRESH_DAYS) and ISBNs that ISBNdb did not know lately (MISS_REMEMBER_DAYS) are not asked for, unless
    `refresh`. Each batch is stored before the next is asked for; of one whose answer is too large for ISBNdb, halves
    are asked for.

    Raises EnrichmentStopped with one of ENDINGS; when that is the quota's refusal before the first call, nothing was
    spent.
    """
    given = list(values)
    parsed = parse_many(given)
    result = Enrichment(requested=len(given), valid=len(parsed.valid), invalid=parsed.invalid)
    nothing = selectors.KnownIsbns(fresh=set(), missed=set(), wanted=parsed.valid)
    known = nothing if refresh else selectors.known_isbns(parsed.valid)
    result.already_fresh = len(known.fresh)
    result.not_found_isbns = [isbn for isbn in parsed.valid if isbn in known.missed]
    wanted = known.wanted
    size = settings.ISBNDB_BATCH_SIZE
    batches = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    if not batches:
        return result

    rest = list(wanted)
    with spending(consumer=consumer, operation="batch-direct", calls=len(batches), source=source) as spender:
        try:
            for batch in batches:
                for part, answer in _ask_for(batch, spender):
                    _take(part, answer, result)
                    del rest[: len(part)]
        except ENDINGS as error:
            result.failed += len(rest)
            result.errors += [FailedIsbn(isbn, in_our_words(error)) for isbn in rest]
            raise EnrichmentStopped(result, error) from error
        finally:
            result.api_calls = len(spender.dispatched)
    return result


def enrich_batch(batch: list[str], spender: Spender, result: Enrichment) -> dict[str, str]:
    """Asks for up to ISBNDB_BATCH_SIZE ISBN-13s, stores what comes and adds it to `result`.

    It takes one call, unless ISBNdb finds the answer too large: then its halves are asked for and stored one after the
    other, with calls that are set aside as they come. Returns those that came and could not be stored, with the reason.
    Raises one of ENDINGS; the halves before it are stored and counted.
    """
    failed: dict[str, str] = {}
    for part, answer in _ask_for(batch, spender):
        failed |= _take(part, answer, result)
    return failed


def _ask_for(batch: list[str], spender: Spender) -> Iterator[tuple[list[str], Answer]]:
    """The parts of the batch, in order, with what ISBNdb says of each; usually it is one."""
    parts = [batch]
    while parts:
        part = parts.pop()
        if spender.reservation is not None:
            spender.need(max(1, spender.left))
        try:
            answer = client.fetch_books(part, spender)
        except IsbndbPageTooLarge:
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]]
        else:
            yield part, answer


def _take(asked: list[str], answer: Answer, result: Enrichment) -> dict[str, str]:
    """Stores what ISBNdb says of the ISBN-13s and adds it to `result`; returns those that could not be stored."""
    found = {book.isbn13 for book in answer.books}
    missing = [isbn for isbn in asked if isbn not in found]
    stored = store_books(answer.books)
    remember_misses(missing, asked_at=_doubtful() if answer.bad else None)

    result.created += stored.created
    result.updated += stored.updated
    result.found += len(found)
    result.enriched += stored.created + stored.updated + stored.unchanged
    result.failed += len(stored.errors)
    result.not_found_isbns += missing
    result.errors += [FailedIsbn(book.isbn, book.error) for book in answer.bad]
    result.errors += [FailedIsbn(error.isbn, error.error) for error in stored.errors]
    return {error.isbn: error.error for error in stored.errors}


def _doubtful() -> datetime:
    """The time of asking from which a miss is remembered for DOUBTFUL_MISS_DAYS, not MISS_REMEMBER_DAYS.

    One of the ISBNs may be that of the book which could not be read. They are asked for again soon, but not with every
    request: the book may stay as it is.
    """
    return datetime.now(UTC) - timedelta(days=max(0, settings.MISS_REMEMBER_DAYS - DOUBTFUL_MISS_DAYS))
