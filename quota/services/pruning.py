"""What keeps the journal from growing for ever."""

from datetime import date

import structlog

from quota.database import ask

log = structlog.get_logger(__name__)

CHUNK = 10_000
"""Rows that one statement deletes, so that none takes long."""

_PRUNE_CALLS = """
    WITH gone AS (
        DELETE FROM quota_call WHERE id = ANY (ARRAY(SELECT id FROM quota_call WHERE day < %s LIMIT %s)) RETURNING id
    ), forgotten AS (
        UPDATE quota_reconciliation SET call_id = NULL WHERE call_id IN (SELECT id FROM gone)
    )
    SELECT count(*) FROM gone"""
_PRUNE_RESERVATIONS = """
    WITH gone AS (
        DELETE FROM quota_reservation WHERE id = ANY (ARRAY(
            SELECT id FROM quota_reservation AS old
            WHERE day < %s AND state <> 'open' AND NOT EXISTS (SELECT FROM quota_call WHERE reservation_id = old.id)
            LIMIT %s)) RETURNING id
    )
    SELECT count(*) FROM gone"""
_PRUNE_REFUSALS = """
    WITH gone AS (
        DELETE FROM quota_refusal
        WHERE id = ANY (ARRAY(SELECT id FROM quota_refusal WHERE at < quota_midnight(%s) LIMIT %s)) RETURNING id
    )
    SELECT count(*) FROM gone"""


def prune_journal(*, before: date) -> int:
    """Deletes the calls and refusals of the days before, and closed reservations without calls; returns how many rows.

    Ledgers, usage, corrections and reconciliations stay. Raises QuotaUnavailable; what is deleted then stays deleted.
    """
    rows = 0
    for statement in (_PRUNE_CALLS, _PRUNE_RESERVATIONS, _PRUNE_REFUSALS):
        while deleted := int(ask(statement, [before, CHUNK])[0]):
            rows += deleted
    if rows:
        log.info("quota.journal_pruned", before=str(before), rows=rows)
    return rows
