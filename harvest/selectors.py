"""Everything that only reads the harvest."""

from harvest.crons import Cron
from quota.database import reachable
from quota.exceptions import ConsumerUnknown
from quota.models import Consumer, ConsumerUsage
from quota.selectors import QuotaStatus, get_switches


def why_skip(cron: Cron, status: QuotaStatus) -> str:
    """Why a run of the cron cannot spend a single call; "" when it can, or needs none.

    Without figures, so that runs which are skipped for the same reason have the same words.
    Raises ConsumerUnknown and QuotaUnavailable.
    """
    if not cron.consumer:
        return ""
    with reachable():
        payer = Consumer.objects.filter(slug=cron.consumer).first()
        if payer is None:
            raise ConsumerUnknown(f"There is no consumer {cron.consumer!r}: manage.py migrate makes it.")
        usage = ConsumerUsage.objects.filter(ledger=status.day, consumer=payer).first()
    spent = usage.used + usage.reserved if usage else 0
    enforces = status.enforcement == "enforce"
    reasons = {
        "Harvesting is switched off.": not get_switches().harvest_enabled,
        f"The consumer {payer} is switched off.": not payer.active,
        "ISBNdb has closed the day.": enforces and status.closed_reason is not None,
        # At the floor itself, too: the first call would be refused.
        f"No call is free above the floor of {payer.floor:,}.": enforces and status.remaining <= payer.floor,
        f"The daily budget of {payer.daily_budget} calls is used up.": (
            enforces and payer.daily_budget is not None and spent >= payer.daily_budget
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
