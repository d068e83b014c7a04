"""Enriching: from ISBNs in any form to stored editions, with as few calls as can be."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import OperationalError

from enrichment import gateway, selectors
from enrichment.exceptions import IsbndbError
from enrichment.isbn import InvalidEntry, parse_many
from enrichment.storage import remember_misses, store_books
from quota.exceptions import QuotaError
from quota.spending import Spending, spending


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


class EnrichmentStopped(Exception):
    """The quota or ISBNdb ended it early; `result` has what was stored until then and the reason is `__cause__`.

    `result`: an Enrichment, a Bibliography or a NewReleases.
    """

    def __init__(self, result: Any) -> None:
        self.result = result
        super().__init__("Enriching ended early.")


def enrich_isbns(values: Iterable[str | int], *, consumer: str, source: str = "", refresh: bool = False) -> Enrichment:
    """Stores what ISBNdb knows of the ISBNs, at one call per ISBNDB_BATCH_SIZE of those that have to be asked for.

    `consumer`: the slug of who pays. `source`: what it is for, for the record. Editions that are fresh
    (EDITION_FRESH_DAYS) and ISBNs that ISBNdb did not know lately (MISS_REMEMBER_DAYS) are not asked for, unless
    `refresh`. Each batch is stored before the next is asked for.

    Raises EnrichmentStopped, caused by a QuotaError, an IsbndbError or an OperationalError of the database; when it is
    the quota's refusal before the first call, nothing was spent.
    """
    given = list(values)
    parsed = parse_many(given)
    result = Enrichment(requested=len(given), valid=len(parsed.valid), invalid=parsed.invalid)
    known = selectors.known_isbns(parsed.valid) if not refresh else selectors.KnownIsbns(fresh=set(), missed=set())
    missed = known.missed - known.fresh  # ISBNdb may have dropped what we have
    result.already_fresh = len(known.fresh)
    result.not_found_isbns = [isbn for isbn in parsed.valid if isbn in missed]
    wanted = [isbn for isbn in parsed.valid if isbn not in known.fresh and isbn not in missed]
    size = settings.ISBNDB_BATCH_SIZE
    batches = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    if not batches:
        return result

    with spending(consumer=consumer, operation="batch-direct", calls=len(batches), source=source) as spender:
        for number, batch in enumerate(batches):
            try:
                enrich_batch(batch, spender, result)
            except (QuotaError, IsbndbError, OperationalError) as error:
                for isbn in (isbn for rest in batches[number:] for isbn in rest):
                    result.failed += 1
                    result.errors.append(FailedIsbn(isbn, str(error)))
                raise EnrichmentStopped(result) from error
            finally:
                result.api_calls = len(spender.dispatched)
    return result


def enrich_batch(batch: list[str], spender: Spending, result: Enrichment) -> dict[str, str]:
    """Asks for up to ISBNDB_BATCH_SIZE ISBN-13s in one call, stores what comes and adds it to `result`.

    Returns those of which nothing is known even now, with the reason. Raises an IsbndbError, an OperationalError, and
    what `Spending.dispatch` raises.
    """
    answer = gateway.fetch_books(batch, spender)
    stored = store_books(answer.books)

    result.errors += [FailedIsbn(book.isbn, book.error) for book in answer.bad]
    result.errors += [FailedIsbn(error.isbn, error.error) for error in stored.errors]

    found = {book.isbn13 for book in answer.books} & set(batch)
    failed = {error.isbn: error.error for error in stored.errors if error.isbn in found}
    missing = [isbn for isbn in batch if isbn not in found]
    result.created += stored.created
    result.updated += stored.updated
    result.found += len(found)
    result.enriched += len(found) - len(failed)
    result.failed += len(failed)
    result.not_found_isbns += missing
    if not answer.bad:
        remember_misses(missing)
        return failed
    # One of the missing ISBNs is the bad book's: they are asked for again next time.
    return failed | dict.fromkeys(missing, f"ISBNdb sent a book that is of no use: {answer.bad[0].error}")
