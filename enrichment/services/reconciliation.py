"""Comparing ISBNdb's own counter with our ledger."""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from enrichment.exceptions import ENDINGS, EnrichmentStopped, JustReconciled
from enrichment.gateway.asking import ask
from enrichment.gateway.questions import key_usage
from enrichment.services.single_flight import claim, end, seconds_left
from quota.models import Reconciliation
from quota.services import corrections
from quota.spending import spending

ON_REQUEST_EVERY = timedelta(seconds=10)

_SUBJECT = "reconciliation on request"


@dataclass(frozen=True)
class Reconciled:
    """Both counters, and the calls spent on the comparison, including retries."""

    counters: Reconciliation
    api_calls: int


@dataclass(frozen=True)
class NotReconciled:
    """The calls that a failed comparison has spent, and whether anything was sent: `GET /key` may cost nothing."""

    api_calls: int
    was_sent: bool


def reconcile_on_request(*, consumer: str, source: str) -> Reconciled:
    """As `reconcile`, once within ON_REQUEST_EVERY for the whole fleet. Raises JustReconciled too.

    A request that the quota refuses does not count: ISBNdb was not asked.
    """
    asker = uuid.uuid4()
    if not claim({_SUBJECT}, asker=asker, lease=ON_REQUEST_EVERY):
        raise JustReconciled(retry_after=max(1, ceil(seconds_left(_SUBJECT))))
    try:
        return reconcile(consumer=consumer, source=source)
    except EnrichmentStopped as stopped:
        if not stopped.result.was_sent:
            end(asker)
        raise


def reconcile(*, consumer: str, source: str = "") -> Reconciled:
    """Asks ISBNdb for its own counter and raises ours if it is lower. `consumer` (a slug) pays for `GET /key`.

    When nothing is left at ISBNdb, the day is closed; when calls are left, a closed day is opened again.

    Raises EnrichmentStopped with a NotReconciled. Then the only thing recorded is the calls.
    """
    with spending(consumer=consumer, operation="reconciliation", calls=0, source=source) as spender:
        try:
            theirs = ask(key_usage(spender))
            counters = corrections.reconcile(
                spender.dispatched[-1], spent=theirs.spent, total=theirs.total, left=theirs.left
            )
        except ENDINGS as error:
            result = NotReconciled(spender.calls_spent, was_sent=bool(spender.dispatched))
            raise EnrichmentStopped(result, error) from error
        return Reconciled(counters, spender.calls_spent)
