"""Deletes old rows, so that the journal does not grow without limit."""

from datetime import date

import structlog

from quota.database import ask

log = structlog.get_logger(__name__)

CHUNK = 10_000
"""Rows that one statement deletes, so that no statement takes long."""

_PRUNE_CALLS = """
    WITH deleted AS (
        DELETE FROM quota_call
        WHERE id = ANY (ARRAY(SELECT id FROM quota_call WHERE day < %(before)s LIMIT %(chunk)s)) RETURNING id
    ), unlinked AS (
        UPDATE quota_reconciliation SET call_id = NULL WHERE call_id IN (SELECT id FROM deleted)
    )
    SELECT count(*) FROM deleted"""
_PRUNE_RESERVATIONS = """
    WITH deleted AS (
        DELETE FROM quota_reservation WHERE id = ANY (ARRAY(
            SELECT id FROM quota_reservation AS old
            WHERE day < %(before)s AND state <> 'open'
                AND NOT EXISTS (SELECT FROM quota_call WHERE reservation_id = old.id)
            LIMIT %(chunk)s)) RETURNING id
    )
    SELECT count(*) FROM deleted"""
_PRUNE_REFUSALS = """
    WITH deleted AS (
        DELETE FROM quota_refusal
        WHERE id = ANY (ARRAY(
            SELECT id FROM quota_refusal WHERE at < quota_midnight(%(before)s) LIMIT %(chunk)s)) RETURNING id
    )
    SELECT count(*) FROM deleted"""


def prune_journal(*, before: date) -> int:
    """Deletes the calls and refusals of the days before `before`, and closed reservations without calls.

    Returns the number of rows. Ledgers, usage, corrections and reconciliations stay. Raises QuotaUnavailable; the rows
    that were deleted until then stay deleted.
    """
    rows = 0
    for statement in (_PRUNE_CALLS, _PRUNE_RESERVATIONS, _PRUNE_REFUSALS):
        while deleted := int(ask(statement, {"before": before, "chunk": CHUNK})[0]):
            rows += deleted
    if rows:
        log.info("quota.journal_pruned", before=str(before), rows=rows)
    return rows
