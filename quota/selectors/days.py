"""One day in figures: who used it, when, and the outcomes of the requests."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, timedelta

from django.db.models import QuerySet, Sum
from django.db.models.functions import ExtractHour

from quota.database import reachable
from quota.models import Call, ConsumerUsage, DailyLedger, Refusal, Reopening
from quota.models.ledger import REQUESTS
from quota.selectors.status import begin_of, drift_of

HOURS = 24

RECORDED_WITHIN = timedelta(minutes=1)
"""A refusal is recorded within this time: one from the day's last second may have a time after midnight."""


@dataclass(frozen=True)
class DayInFigures:
    """All figures are calls, except `refusals`, which counts how often a limit refused calls, and requests.

    `hours`: calls dispatched in each of the day's 24 hours UTC. `outcomes`: requests and calls by outcome, the one with
    most requests first; calls that no request of ours has spent come last.
    Both come from the journal and are empty once the day's journal is pruned. `drift`: calls added to the ledger
    because ISBNdb counted more. `reopenings`: each time that the day was closed and opened again, the newest first.
    """

    ledger: DailyLedger
    usages: list[ConsumerUsage]
    hours: list[int]
    outcomes: list[tuple[Call.Outcome, int, int]]
    refusals: int
    adjusted: int
    drift: int
    reopenings: list[Reopening]


def day_in_figures(ledger: DailyLedger) -> DayInFigures:
    """The figures of one day. Reads only that day's rows of the journal. Raises QuotaUnavailable."""
    with reachable():
        usages = list(ledger.usages.select_related("consumer").order_by("-used", "consumer__slug"))
        journal = list(
            Call.objects.filter(ledger=ledger)
            .order_by()
            .values_list(ExtractHour("dispatched_at", tzinfo=UTC), "outcome")
            .annotate(total=Sum("calls"), requests=REQUESTS)
        )
        refusals = refusals_of(ledger.day).aggregate(times=Sum("times", default=0))["times"]
        adjusted = ledger.adjustments.aggregate(calls=Sum("calls", default=0))["calls"]
        drift = drift_of(ledger.day)
        reopenings = list(ledger.reopenings.select_related("made_by"))
    hours: Counter[int] = Counter()
    spent: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    for hour, outcome, calls, requests in journal:
        hours[hour] += calls
        spent[outcome] += calls
        sent[outcome] += requests
    return DayInFigures(
        ledger=ledger,
        usages=usages,
        hours=[hours[hour] for hour in range(HOURS)] if journal else [],
        outcomes=[
            (Call.Outcome(outcome), sent[outcome], spent[outcome])
            for outcome in sorted(spent, key=lambda outcome: (-sent[outcome], -spent[outcome]))
        ],
        refusals=refusals,
        adjusted=adjusted,
        drift=drift,
        reopenings=reopenings,
    )


def refusals_of(day: date) -> QuerySet[Refusal]:
    """The refusals of a day, found by the index of their times."""
    midnight = begin_of(day)
    end = midnight + timedelta(days=1) + RECORDED_WITHIN
    return Refusal.objects.filter(ledger=day, at__gte=midnight, at__lt=end)
