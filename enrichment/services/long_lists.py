"""A list of any length, part by part, in the process that asks for it: the books come, or the ISBNs are queued."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from django.conf import settings

from enrichment.exceptions import EnrichmentStopped, QueueFull
from enrichment.isbn.reading import GivenIsbns
from enrichment.models import QueuedIsbn
from enrichment.services.enrich import Enrichment, enrich_isbns
from enrichment.services.outcomes import Outcome, outcomes
from enrichment.services.queue import enqueue
from enrichment.services.refreshes import refresh_isbns
from enrichment.services.stop_reasons import public_message
from quota.exceptions import QuotaError
from quota.selectors.allowances import allowance_of
from quota.selectors.prices import batch_size_for, cost_of_isbns
from quota.selectors.status import get_status

BATCHES_AT_ONCE = 4
"""Batches of a part, which are under way together."""

NOT_ASKED = "not asked for, because the list ended early"


@dataclass
class ListResult:
    """What became of a list so far."""

    given: GivenIsbns
    states: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    created: int = 0
    updated: int = 0
    api_calls: int = 0
    stopped: Exception | None = None
    """Why it ended early: one of ENDINGS or QueueFull."""

    @property
    def items(self) -> list[Outcome]:
        """What became of each ISBN and value, in the order given. What was not reached has failed."""
        rest = [isbn for isbn in self.given.valid if isbn not in self.states]
        states = self.states | dict.fromkeys(rest, "failed")
        return outcomes(self.given, states, self.reasons | dict.fromkeys(rest, NOT_ASKED))

    @property
    def counts(self) -> dict[str, int]:
        """requested = valid + duplicates + invalid, and valid is the sum of the states of ISBNs."""
        given = self.given
        states = Counter(self.states.get(isbn, "failed") for isbn in given.valid)
        counts = {"requested": given.requested, "valid": len(given.valid)}
        return counts | {"duplicates": given.duplicates, "invalid": len(given.invalid)} | dict(states)

    def add(self, items: list[Outcome]) -> None:
        """Takes over what became of a part of the valid ISBNs."""
        self.states |= {item.isbn13: item.state for item in items if item.isbn13}
        self.reasons |= {item.isbn13: item.reason for item in items if item.isbn13 and item.reason}


def enrich_list(
    result: ListResult, *, consumer: str, source: str, refresh: bool = False, advance: Callable[[int], None]
) -> None:
    """Enriches the valid ISBNs of `result.given`, several batches at a time, and puts into `result` what became of
    them.

    A part has no more ISBNs than the consumer's free calls pay for, so a list uses the quota up before it stops.
    `advance` gets the number of ISBNs of each part that is over. Raises ConsumerUnknown and QuotaUnavailable.
    """
    enrich: Callable[..., Enrichment] = refresh_isbns if refresh else enrich_isbns
    at = 0
    while at < len(result.given.valid):
        part = result.given.valid[at : at + _part_size(consumer)]
        try:
            done = enrich(part, consumer=consumer, source=source)
        except EnrichmentStopped as stopped:
            done, result.stopped = stopped.result, stopped.reason
        result.add(done.items)
        result.created += done.created
        result.updated += done.updated
        result.api_calls += done.api_calls
        advance(len(part))
        if result.stopped:
            return
        at += len(part)


def queue_list(result: ListResult, *, consumer: str, source: str, advance: Callable[[int], None]) -> None:
    """Queues the valid ISBNs of `result.given`, and puts into `result` what became of them. See `enrich_list`."""
    for part in _parts(result.given.valid):
        try:
            queued = enqueue(part, priority=QueuedIsbn.Priority.NORMAL, consumer=consumer, source=source)
        except QueueFull as full:
            result.stopped = full
            return
        result.add(queued.items)
        advance(len(part))


def why_stopped(result: ListResult) -> str:
    """A sentence for people; "" when the list is done."""
    if result.stopped is None:
        return ""
    return public_message(result.stopped) if not isinstance(result.stopped, QueueFull) else str(result.stopped)


def ended_for_quota(result: ListResult) -> bool:
    """Whether the rest can be done when there are calls, or room in the queue, again."""
    return isinstance(result.stopped, QuotaError | QueueFull)


def _part_size(consumer: str) -> int:
    """Several full batches; one batch, perhaps a smaller one, if the consumer's free calls pay for no more."""
    several = BATCHES_AT_ONCE * settings.ISBNDB_BATCH_SIZE
    status = get_status()
    pays = status.enforcement == "observe" or cost_of_isbns(several) <= allowance_of(consumer, status).free
    return several if pays else batch_size_for(consumer)


def _parts(isbns: list[str]) -> Iterator[list[str]]:
    size = settings.ISBNDB_BATCH_SIZE
    return (isbns[start : start + size] for start in range(0, len(isbns), size))
