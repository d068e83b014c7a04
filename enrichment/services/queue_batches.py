"""Which ISBNs of the queue go into the next batch, and which of the consumers that asked for them pays for what."""

import uuid
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from alexandria.common.heartbeats import LEASE
from enrichment.models import QueuedIsbn, QueuePayer, QueueState
from enrichment.selectors.queue import Payers, get_payers, is_flush_due, is_paused, wanted_next
from enrichment.services.queue import lock
from quota.database import QuotaNow
from quota.prices import RequestKind
from quota.selectors.prices import price_of
from quota.shared_spending import SharedPayer
from quota.spending import for_one_question

_CLAIM = """
    UPDATE enrichment_queuedisbn SET
        claim = %(claim)s, held_until = quota_now() + %(lease)s::interval, attempts = attempts + 1
    WHERE isbn13 = ANY (ARRAY(
        SELECT isbn13 FROM enrichment_queuedisbn WHERE isbn13 = ANY (%(isbns)s) ORDER BY isbn13 FOR NO KEY UPDATE))
    RETURNING isbn13"""


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch that a flusher has claimed: the ISBN-13s of each payer, by its slug; the one with the most is first."""

    claim: uuid.UUID
    isbns_of: dict[str, list[str]]
    payer: SharedPayer
    source: str

    @property
    def isbns(self) -> list[str]:
        return [isbn for isbns in self.isbns_of.values() for isbn in isbns]

    def part(self, isbns: Sequence[str]) -> "Batch":
        """Some of its ISBN-13s as a batch of their own, paid by those who pay for them here."""
        wanted = set(isbns)
        kept = {slug: [isbn for isbn in own if isbn in wanted] for slug, own in self.isbns_of.items()}
        return make_batch(self.claim, {slug: own for slug, own in kept.items() if own}, source=self.source)

    def without(self, payers: Sequence[str]) -> "Batch":
        """The same without these payers, and without their ISBNs."""
        return replace(self, isbns_of={slug: own for slug, own in self.isbns_of.items() if slug not in payers})


def fill(wanted: Mapping[int, Sequence[str]], *, size: int, most: Mapping[int, int]) -> dict[str, int]:
    """Fills a batch from the consumers in turn: each turn of a consumer is its next ISBN that is not in the batch yet.

    `wanted`: what each consumer wants, in order. `most`: for how many ISBNs each can pay. Returns who pays for which
    ISBN: the consumer in whose turn it was taken.
    """
    batch: dict[str, int] = {}
    turns = deque((consumer, iter(isbns), most[consumer]) for consumer, isbns in wanted.items())
    while turns and len(batch) < size:
        consumer, isbns, left = turns.popleft()
        if left > 0 and (isbn := next((isbn for isbn in isbns if isbn not in batch), None)) is not None:
            batch[isbn] = consumer
            turns.append((consumer, isbns, left - 1))
    return batch


def by_share(batch: Mapping[str, int], chosen_at: Mapping[int, datetime]) -> dict[int, list[str]]:
    """The ISBNs of each payer. The one with the most is first; among equals, the one chosen longest ago, or never."""
    isbns_of: dict[int, list[str]] = {}
    for isbn, consumer in batch.items():
        isbns_of.setdefault(consumer, []).append(isbn)
    never = datetime.min.replace(tzinfo=UTC)
    order = sorted(isbns_of, key=lambda consumer: (-len(isbns_of[consumer]), chosen_at.get(consumer, never), consumer))
    return {consumer: isbns_of[consumer] for consumer in order}


def claim_batch(payers: Payers, *, source: str) -> Batch | None:
    """Claims the next batch for the time of LEASE, of ISBNs for which these can pay; None when none is worth a request.

    `source`: the purpose, for the journal. `renew` keeps the claim.
    """
    claim = uuid.uuid4()
    able = payers.able
    by_the_request = price_of(RequestKind.BATCH, isbns=2) == 1  # if not, or while it is unknown: by the ISBN
    all_isbns = settings.ISBNDB_BATCH_SIZE
    size, most = (all_isbns, dict.fromkeys(able, all_isbns)) if by_the_request else payers.most_isbns()
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        _look()  # which locks the row of the queue, so flushers pick one after the other
        if is_paused():
            return None
        wanted = wanted_next(able, size=all_isbns)
        if not (wanted.is_due or wanted.fills(all_isbns)):
            return None
        filled = fill(wanted.isbns_of, size=size, most=most)
        parameters: dict[str, Any] = {"claim": claim, "lease": LEASE, "isbns": list(filled)}
        cursor.execute(_CLAIM, parameters)
        claimed = {isbn: filled[isbn] for (isbn,) in sorted(cursor.fetchall())}
        chosen_at = dict(QueuePayer.objects.filter(consumer__in=able).values_list("consumer", "chosen_at"))
        isbns_of = by_share(claimed, chosen_at)
        if isbns_of and by_the_request:
            first = next(iter(isbns_of))
            QueuePayer.objects.update_or_create(consumer_id=first, defaults={"chosen_at": QuotaNow()})
    if not isbns_of:
        return None
    slugs = {pk: payers.allowances[pk].consumer.slug for pk in isbns_of}
    return make_batch(claim, {slugs[pk]: isbns for pk, isbns in isbns_of.items()}, source=source)


def renew(batches: Collection[Batch]) -> None:
    """Keeps the claims of these batches for the time of LEASE from now on."""
    with transaction.atomic(durable=True):
        ours = lock(QueuedIsbn.objects.filter(claim__in=[batch.claim for batch in batches]))
        QueuedIsbn.objects.filter(isbn13__any_of=ours).update(held_until=QuotaNow() + LEASE)


def look() -> bool:
    """Records that a flusher looked at the queue; returns whether a batch is worth a request now."""
    _look()
    return QueuedIsbn.objects.exists() and is_flush_due(get_payers())


def _look() -> None:
    QueueState.objects.update_or_create(id=1, defaults={"looked_at": QuotaNow()})


def make_batch(claim: uuid.UUID, isbns_of: dict[str, list[str]], *, source: str) -> Batch:
    """`isbns_of`: the ISBN-13s of each payer, by its slug; the first one pays for a batch by the request."""
    payers = [
        (for_one_question(consumer=slug, operation="queue", source=source), len(isbns))
        for slug, isbns in isbns_of.items()
    ]
    return Batch(claim, isbns_of, SharedPayer(payers), source)
