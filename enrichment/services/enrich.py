"""Enriches ISBNs: from ISBNs in any form to stored editions, with as few calls as possible."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from django.conf import settings

from enrichment.books.aside import store_or_put_aside
from enrichment.books.decoding import Answer
from enrichment.books.storage import StoreResult, remember_misses, store_books
from enrichment.exceptions import ENDINGS, EnrichmentStopped, IsbndbError, IsbndbPageTooLarge
from enrichment.gateway.asking import ask_each
from enrichment.gateway.questions import Exchanged, Question, batch_of
from enrichment.isbn.reading import GivenIsbns, read
from enrichment.selectors.books import known_isbns, oldest_isbns
from enrichment.services.outcomes import OfGiven, Outcome, outcomes
from enrichment.services.prices import PROBE_ISBNS, measure, probe
from enrichment.services.reconciliation import reconcile
from enrichment.services.single_flight import MAX_WAIT_SECONDS, asking, wait_for_others
from enrichment.services.stop_reasons import public_message
from quota.models import PriceMeasurement
from quota.prices import BatchPrice
from quota.selectors.prices import cost_of_isbns
from quota.spending import Payer, Spender, spending

WELL_KNOWN = ("9780593135204", "9780451524935")
"""Books with which the price is measured while no edition is stored."""


@dataclass(frozen=True)
class FailedIsbn:
    """An ISBN without a result, or the ISBN of a bad book as ISBNdb sent it; None when the book had none."""

    isbn: str | None
    error: str


@dataclass
class Enrichment(OfGiven):
    """The result for a list of ISBNs.

    Every distinct valid ISBN is one of: already_fresh, enriched (= created + updated + unchanged), not_found, failed.
    """

    given: GivenIsbns = field(default_factory=GivenIsbns)
    fresh: set[str] = field(default_factory=set)
    """ISBN-13s with a fresh stored edition. They cost no call."""
    found: int = 0
    """ISBNs that ISBNdb was asked for and knows."""
    enriched: int = 0
    """Found books that are stored: created, updated or unchanged."""
    created: int = 0
    updated: int = 0
    not_found_isbns: list[str] = field(default_factory=list)
    """ISBNs that ISBNdb does not know, now or when it was last asked."""
    failed: int = 0
    errors: list[FailedIsbn] = field(default_factory=list)
    just_asked: int = 0
    """Of a refresh: ISBNs that ISBNdb has answered within the last minute. They are not asked again."""
    api_calls: int = 0
    """Calls spent, including retries."""

    @property
    def already_fresh(self) -> int:
        return len(self.fresh)

    @property
    def not_found(self) -> int:
        return len(self.not_found_isbns)

    @property
    def items(self) -> list[Outcome]:
        """What became of each ISBN and value, in the order given."""
        states = dict.fromkeys(self.given.valid, "enriched") | dict.fromkeys(self.fresh, "already_fresh")
        states |= dict.fromkeys(self.not_found_isbns, "not_found")
        reasons = {each.isbn: each.error for each in self.errors if each.isbn and states.get(each.isbn) == "enriched"}
        return outcomes(self.given, states | dict.fromkeys(reasons, "failed"), reasons)


def enrich_isbns(
    values: Iterable[object] | GivenIsbns,
    *,
    consumer: str,
    operation: str = "batch-direct",
    source: str = "",
    refresh: bool = False,
) -> Enrichment:
    """Stores what ISBNdb knows about the ISBNs. It asks in batches of ISBNDB_BATCH_SIZE ISBNs.

    `values`: in any form, or as `read` returns them. `consumer`: the slug of the payer. `operation`, `source`: what
    this is and what for, in the journal. ISBNs with a fresh edition and remembered misses (see selectors/books.py) are
    not in a batch; with `refresh`, only those are not that ISBNdb has answered within a minute. Several batches are
    under way at once, and each is stored when it comes. A batch whose answer is too large for ISBNdb is halved. While
    somebody else asks for an ISBN, its answer is waited for.

    Raises EnrichmentStopped with one of ENDINGS; when that is the quota's refusal before the first request, nothing was
    spent.
    """
    result = Enrichment(read(values))

    def ask(rest: list[str]) -> None:
        calls = cost_of_isbns(len(rest))
        with (
            spending(consumer=consumer, operation=operation, calls=calls, source=source) as spender,
            counted(spender, result),
        ):
            ask_in_batches(rest, spender, result)

    ask_once(result, ask, refresh=refresh)
    return result


def ask_once(result: Enrichment, ask: Callable[[list[str]], None], *, refresh: bool) -> None:
    """Calls `ask` with the valid ISBN-13s of the list that nobody knows, and nobody else is asking ISBNdb for.

    `ask` takes what is answered out of its list. The answers that others get are waited for, and cost nothing here.
    With `refresh`, what ISBNdb has answered within a minute is known. Adds what is known to `result`. Raises
    EnrichmentStopped when one of ENDINGS stops it: all that is not answered has failed.
    """
    wanted = _wanted(result, result.given.valid, refresh=refresh)
    give_up_at = time.monotonic() + MAX_WAIT_SECONDS
    mine: list[str] = []
    try:
        while wanted:
            with asking(wanted) as claimed:
                mine = [isbn for isbn in wanted if isbn in claimed]
                wanted = [isbn for isbn in wanted if isbn not in claimed]
                mine = _wanted(result, mine, refresh=refresh)  # the answer may have come just before the claim
                if mine:
                    ask(mine)
            if wanted:
                wait_for_others(wanted, until=give_up_at)
                wanted = _wanted(result, wanted, refresh=refresh)
    except ENDINGS as error:
        failed = [*mine, *wanted]
        result.failed += len(failed)
        result.errors += [FailedIsbn(isbn, public_message(error)) for isbn in failed]
        raise EnrichmentStopped(result, error) from error


def _wanted(result: Enrichment, isbns: list[str], *, refresh: bool) -> list[str]:
    """The ISBN-13s for which ISBNdb has to be asked. The others are added to `result`."""
    known = known_isbns(isbns, refresh=refresh)
    result.just_asked += len(isbns) - len(known.wanted) if refresh else 0
    result.fresh |= known.fresh
    result.not_found_isbns += [isbn for isbn in isbns if isbn in known.missed]
    return known.wanted


@contextmanager
def counted(spender: Spender, result: Enrichment) -> Iterator[None]:
    """When the block ends, `result` has its calls."""
    try:
        yield
    finally:
        result.api_calls += spender.calls_spent


def ask_in_batches(rest: list[str], spender: Spender, result: Enrichment) -> None:
    """Asks ISBNdb for the ISBN-13s in batches, several at once, and stores the books.

    Takes what is answered out of `rest`, and adds the counts to `result`. Raises one of ENDINGS.
    """
    if (first := probe(rest[: settings.ISBNDB_BATCH_SIZE], spender)) is not None:
        add_answer(rest[:PROBE_ISBNS], first, result)
        del rest[:PROBE_ISBNS]
    size = settings.ISBNDB_BATCH_SIZE
    parts = iter([rest[start : start + size] for start in range(0, len(rest), size)])
    batches = Batches(lambda: next(parts, []))
    failures: list[IsbndbError] = []  # after the first, no further batch is sent
    with closing(ask_each(lambda: None if failures else batches.next_question(spender))) as exchanges:
        for exchanged in exchanges:
            asked = batches.asked_by(exchanged)
            if exchanged.answer is not None:
                add_answer(asked, exchanged.answer, result)
                done = set(asked)
                rest[:] = [isbn for isbn in rest if isbn not in done]
                spender.release_beyond(cost_of_isbns(len(rest)))  # the price may have become known, or have changed
            elif isinstance(exchanged.failure, IsbndbPageTooLarge):
                batches.halve(asked)
            elif exchanged.failure is not None:
                failures.append(exchanged.failure)
    if failures:
        raise failures[0]


class Batches:
    """Questions for batches of ISBN-13s, for `ask_each`.

    `next_batch` returns up to ISBNDB_BATCH_SIZE ISBN-13s; [] when there are none to ask for now.
    """

    def __init__(self, next_batch: Callable[[], list[str]]) -> None:
        self._next_batch = next_batch
        self._halves: deque[list[str]] = deque()
        self._asked: dict[Question[Answer], list[str]] = {}

    def next_question(self, payer: Payer) -> Question[Answer] | None:
        """The next batch, or the half of one that was too large for ISBNdb."""
        batch = self._halves.popleft() if self._halves else self._next_batch()
        if not batch:
            return None
        question = batch_of(batch, payer)
        self._asked[question] = batch
        return question

    def asked_by(self, exchanged: Exchanged[Answer]) -> list[str]:
        """The ISBN-13s of a question that is over."""
        return self._asked.pop(exchanged.question)

    def halve(self, batch: list[str]) -> None:
        """Asks for the halves of a batch that was too large for ISBNdb (IsbndbPageTooLarge) before any other."""
        middle = len(batch) // 2
        self._halves.extendleft([batch[middle:], batch[:middle]])


def measure_price(*, consumer: str, source: str = "") -> tuple[PriceMeasurement | None, int]:
    """Measures what ISBNdb charges, with the two editions that were fetched the longest ago, and renews them.

    Returns what is on record (None: other requests were under way all the time, so nothing was sent) and the calls
    spent. If the price turns out to be higher than what was charged for the batch, our count is raised. Raises
    EnrichmentStopped with an Enrichment.
    """
    isbns = [*oldest_isbns(PROBE_ISBNS), *WELL_KNOWN][:PROBE_ISBNS]
    result = Enrichment(read(isbns))
    with spending(consumer=consumer, operation="measure-price", calls=0, source=source) as spender:
        try:
            probe = measure(isbns, spender)
            if probe.answer is not None:
                add_answer(isbns, probe.answer, result)
        except ENDINGS as error:
            raise EnrichmentStopped(result, error) from error
        finally:
            result.api_calls = spender.calls_spent
    found = probe.measurement
    if found is not None and found.batch_price == BatchPrice.ISBN:
        # The batch may have been charged the lower price.
        result.api_calls += reconcile(consumer=consumer, source=source).api_calls
    return found, result.api_calls


def add_answer(asked: list[str], answer: Answer, result: Enrichment) -> dict[str, str]:
    """Stores the answer for the ISBN-13s that were asked for, and adds the counts to `result`.

    Returns the ISBN-13s that were not stored, with the reason.
    """
    missing = answer.missing(asked)

    def store() -> StoreResult:
        stored = store_books(answer.books)
        # One of the ISBNs may belong to an unreadable book.
        remember_misses(missing, doubtful=bool(answer.bad))
        return stored

    stored = store_or_put_aside(answer, store, missing=missing)

    result.created += stored.created
    result.updated += stored.updated
    result.found += len(answer.books)
    result.enriched += stored.created + stored.updated + stored.unchanged
    result.failed += len(stored.errors)
    result.not_found_isbns += missing
    result.errors += [FailedIsbn(book.isbn, book.error) for book in answer.bad]
    result.errors += [FailedIsbn(error.isbn, error.error) for error in stored.errors]
    return {error.isbn: error.error for error in stored.errors}
