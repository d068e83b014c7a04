"""ISBNdb's own counter, held against our ledger."""

from enrichment.gateway import fetch_key_usage
from quota.models import Reconciliation
from quota.services import corrections
from quota.spending import spending


def reconcile(*, consumer: str, source: str = "") -> Reconciliation:
    """Asks ISBNdb for its own counter (`GET /key`, one call of `consumer`, a slug) and raises ours where it is lower.

    Raises an IsbndbError and what `spending` raises; then nothing is raised or recorded but the call.
    """
    with spending(consumer=consumer, operation="reconciliation", calls=1, source=source) as spender:
        theirs = fetch_key_usage(spender)
        return corrections.reconcile(spender.dispatched[-1], spent=theirs.spent, total=theirs.total)
