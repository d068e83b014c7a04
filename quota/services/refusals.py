"""Refusals on record."""

import uuid
from dataclasses import dataclass

import structlog
from django.db import DatabaseError

from quota.database import Decision, ask
from quota.exceptions import QuotaUnavailable

log = structlog.get_logger(__name__)

FOLDED_SECONDS = 10
"""Refusals of one consumer, operation and limit are one row for so long."""

# The asker is found by its reservation, or else by its name; the other half of the union finds nothing. The figures
# are read right after the decision and not under its lock, which is not held for a record.
RECORD = """
INSERT INTO quota_refusal (
    id, day, consumer_id, operation, source, "limit", asked, free, retry_at, at, last_at, times, within, figures
)
SELECT gen_random_uuid(), ledger.day, consumer.id, asker.operation, asker.source, %s, %s, %s, %s::timestamptz,
    now.at, now.at, 1, date_bin(make_interval(secs => %s), now.at, TIMESTAMPTZ '2000-01-01 00:00:00+00'),
    jsonb_build_object(
        'daily_limit', ledger.daily_limit, 'safety_limit', ledger.safety_limit,
        'used', ledger.used, 'reserved', ledger.reserved,
        'floor', consumer.floor, 'daily_budget', consumer.daily_budget, 'cap_per_operation', consumer.cap_per_operation,
        'consumer_used', coalesce(own.used, 0), 'consumer_reserved', coalesce(own.reserved, 0),
        'held_by', (
            SELECT coalesce(jsonb_object_agg(holder.slug, held.reserved), '{}')
            FROM quota_consumerusage held JOIN quota_consumer holder ON holder.id = held.consumer_id
            WHERE held.day = ledger.day AND held.reserved > 0
        )
    )
FROM (SELECT quota_now() AS at OFFSET 0) AS now, (
    SELECT consumer_id, operation, source FROM quota_reservation WHERE id = %s::uuid
    UNION ALL SELECT id, %s::text, %s::text FROM quota_consumer WHERE slug = %s::text
) AS asker
JOIN quota_consumer consumer ON consumer.id = asker.consumer_id
JOIN quota_dailyledger ledger ON ledger.day = %s
LEFT JOIN quota_consumerusage own ON own.day = ledger.day AND own.consumer_id = consumer.id
ON CONFLICT (consumer_id, operation, "limit", within)
DO UPDATE SET times = quota_refusal.times + 1, last_at = excluded.last_at
RETURNING id
"""


@dataclass(frozen=True)
class Asker:
    """Who was refused, and for what: the consumer (a slug) with its operation, or a reservation that has both."""

    consumer: str | None = None
    operation: str | None = None
    source: str = ""
    reservation: uuid.UUID | None = None


def record_refusal(decision: Decision, *, asked: int, asker: Asker) -> uuid.UUID | None:
    """Puts a refusal of `asked` calls on record and returns its id; None, with a word in the log, when that failed.

    Raises nothing: whoever was refused is to be told so, whatever becomes of the record.
    """
    what = [decision.outcome, asked, decision.free or 0, decision.retry_at, FOLDED_SECONDS]
    whose = [asker.reservation, asker.operation, asker.source, asker.consumer]
    try:
        found = ask(RECORD, [*what, *whose, decision.day])
    except (QuotaUnavailable, DatabaseError):
        log.exception("quota.refusal_not_recorded", limit=decision.outcome, asked=asked)
        return None
    return found[0] if found else None
