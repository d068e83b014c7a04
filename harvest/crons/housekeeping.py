"""The crons that keep the quota in order. Only the reconciliation spends calls."""

from datetime import date, timedelta

from django.conf import settings

from enrichment.jobs.lists import prune_lists
from enrichment.jobs.pruning import prune_items, prune_jobs
from enrichment.services import reconciliation
from enrichment.services.single_flight import prune_questions
from harvest.crons.run_context import RunContext
from harvest.exceptions import LedgerWrong
from harvest.models import HarvestRun
from quota.models import DailyLedger
from quota.selectors.status import check_ledger
from quota.services import reservations
from quota.services.pruning import prune_journal as prune


def reconcile(context: RunContext) -> None:
    """Compares ISBNdb's own counter with the ledger. Drift of QUOTA_DRIFT_ALERT calls or more is logged as an error."""
    reconciliation.reconcile(consumer=context.consumer, source=context.source)


def expire_leases(context: RunContext) -> None:
    """Releases the calls that dead operations still reserve."""
    context.idle = reservations.expire() == 0


def open_ledger(context: RunContext) -> None:
    """Opens the ledger of the day, so that the first request of the day does not have to."""
    context.idle = not reservations.open_ledger()


def ledger_check(context: RunContext) -> None:
    """Recomputes the ledgers of all past days that were not checked yet; at least yesterday's.

    Cursor: {"checked"}, the last day up to which all ledgers were right. Raises LedgerWrong. The next run then checks
    the same days again, until their figures are right or a person deletes the cursor.
    """
    yesterday = context.today - timedelta(days=1)
    checked = date.fromisoformat(context.cursor.get("checked", (yesterday - timedelta(days=1)).isoformat()))
    days = DailyLedger.objects.filter(day__gt=checked, day__lte=yesterday).order_by("day").values_list("day", flat=True)
    wrong = {day: found for day in days if (found := check_ledger(day))}
    if wrong:
        details = [
            f"{day}: {item.what} is {item.figure}, its rows sum up to {item.rows}"
            for day, found in wrong.items()
            for item in found
        ]
        # The days come first: a reason that is too long loses its end.
        raise LedgerWrong(f"{', '.join(map(str, wrong))}. {'; '.join(details)}")
    context.idle = not days
    context.cursor = {"checked": yesterday.isoformat()}


def prune_journal(context: RunContext) -> None:
    """Deletes jobs, runs, calls with their reservations, and refusals older than JOURNAL_KEEP_DAYS; keeps ledgers.

    Jobs go first, because the journal says what they spent. The items of an ended job are kept for JOB_ITEMS_KEEP_DAYS,
    and lists of staff for one day.
    """
    before = context.today - timedelta(days=settings.JOURNAL_KEEP_DAYS)
    jobs = prune_jobs(before=before)
    jobs += prune_items(before=context.today - timedelta(days=settings.JOB_ITEMS_KEEP_DAYS))
    lists = prune_lists(before=context.today)
    prune_questions()
    runs, _ = HarvestRun.objects.filter(ended_at__date__lt=before).delete()
    context.idle = prune(before=before) == 0 and runs == 0 and jobs == 0 and lists == 0
