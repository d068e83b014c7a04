"""ISBNdb's own counter, held against our ledger."""

from dataclasses import dataclass

from enrichment.exceptions import ENDINGS, EnrichmentStopped
from enrichment.gateway.client import fetch_key_usage
from quota.models import Reconciliation
from quota.services import corrections
from quota.spending import spending


@dataclass(frozen=True)
class Reconciled:
    """Both counters as they stood, and the calls spent on asking, retries included."""

    counters: Reconciliation
    api_calls: int


@dataclass(frozen=True)
class NotReconciled:
    """The calls spent all the same."""

    api_calls: int


def reconcile(*, consumer: str, source: str = "") -> Reconciled:
    """Asks ISBNdb for its own counter (`GET /key`, one call of `consumer`, a slug) and raises ours where it is lower.

    Raises EnrichmentStopped with a NotReconciled and one of ENDINGS; then nothing is raised or recorded but the
    calls.
    """
    with spending(consumer=consumer, operation="reconciliation", calls=1, source=source) as spender:
        try:
            theirs = fetch_key_usage(spender)
            counters = corrections.reconcile(spender.dispatched[-1], spent=theirs.spent, total=theirs.total)
        except ENDINGS as error:
            raise EnrichmentStopped(NotReconciled(len(spender.dispatched)), error) from error
        return Reconciled(counters, len(spender.dispatched))
