"""Puts refusals on record."""

import uuid
from dataclasses import dataclass

import structlog
from django.db import DatabaseError

from quota.database import Decision, ask
from quota.exceptions import QuotaUnavailable
from quota.limits import CONSUMER_FIELDS

log = structlog.get_logger(__name__)

FOLDED_SECONDS = 10
"""Refusals of one consumer, operation and limit within this many seconds are one row."""

# The consumer is found by the reservation or by its slug; one half of the union finds nothing. The figures are read
# right after the decision, without its lock: a record is not worth holding the lock for.
RECORD = """
INSERT INTO quota_refusal (
    id, day, consumer_id, operation, source, "limit", asked, free, retry_at, at, last_at, times, within, figures
)
SELECT gen_random_uuid(), ledger.day, consumer.id, asker.operation, asker.source, %(limit)s, %(asked)s, %(free)s,
    %(retry_at)s::timestamptz, now.at, now.at, 1,
    date_bin(make_interval(secs => %(folded_seconds)s), now.at, TIMESTAMPTZ '2000-01-01 00:00:00+00'),
    jsonb_build_object(
        'daily_limit', ledger.daily_limit, 'safety_limit', ledger.safety_limit,
        'used', ledger.used, 'reserved', ledger.reserved,
        'consumer_used', coalesce(own.used, 0), 'consumer_reserved', coalesce(own.reserved, 0),
        'held_by', (
            SELECT coalesce(jsonb_object_agg(holder.slug, held.reserved), '{}')
            FROM quota_consumerusage held JOIN quota_consumer holder ON holder.id = held.consumer_id
            WHERE held.day = ledger.day AND held.reserved > 0
        )
    ) || (
        SELECT jsonb_object_agg(key, value) FROM jsonb_each(to_jsonb(consumer)) WHERE key = ANY (%(consumer_fields)s)
    )
FROM (SELECT quota_now() AS at OFFSET 0) AS now, (
    SELECT consumer_id, operation, source FROM quota_reservation WHERE id = %(reservation)s::uuid
    UNION ALL SELECT id, %(operation)s::text, %(source)s::text FROM quota_consumer WHERE slug = %(consumer)s::text
) AS asker
JOIN quota_consumer consumer ON consumer.id = asker.consumer_id
JOIN quota_dailyledger ledger ON ledger.day = %(day)s
LEFT JOIN quota_consumerusage own ON own.day = ledger.day AND own.consumer_id = consumer.id
ON CONFLICT (consumer_id, operation, "limit", within)
DO UPDATE SET times = quota_refusal.times + 1, last_at = excluded.last_at
RETURNING id
"""


@dataclass(frozen=True)
class Asker:
    """Who was refused, and for what: the consumer (a slug) with its operation, or a reservation, which has both."""

    consumer: str | None = None
    operation: str | None = None
    source: str = ""
    reservation: uuid.UUID | None = None


def record_refusal(decision: Decision, *, asked: int, asker: Asker) -> uuid.UUID | None:
    """Records a refusal of `asked` calls and returns its id; None when that failed, with a line in the log.

    Raises nothing: the caller must learn of the refusal even if it cannot be recorded.
    """
    refusal = {
        "limit": decision.outcome,
        "asked": asked,
        "free": decision.free or 0,
        "retry_at": decision.retry_at,
        "day": decision.day,
        "consumer_fields": CONSUMER_FIELDS,
        "folded_seconds": FOLDED_SECONDS,
        "reservation": asker.reservation,
        "consumer": asker.consumer,
        "operation": asker.operation,
        "source": asker.source,
    }
    try:
        found = ask(RECORD, refusal)
    except (QuotaUnavailable, DatabaseError):
        log.exception("quota.refusal_not_recorded", limit=decision.outcome, asked=asked)
        return None
    return found[0] if found else None
