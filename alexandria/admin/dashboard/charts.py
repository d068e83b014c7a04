"""What is drawn, each with the table that stands behind it: the browser draws, and computes nothing."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from quota.selectors.dashboard import HISTORY_DAYS, SLOT, QuotaDashboard
from quota.selectors.status import QuotaStatus, begin_of

MOST_SERIES = 7
"""Consumers with a colour of their own; the rest are drawn together."""

OTHERS = "others"
SLOT_MINUTES = SLOT // timedelta(minutes=1)
SLOTS_A_DAY = timedelta(days=1) // SLOT


@dataclass(frozen=True)
class Part:
    """A part of the gauge. `calls`, and what part of the safety and of the daily limit they are, in per cent."""

    name: str
    meaning: str
    calls: int
    of_safety_limit: float | None
    """None: no part of it."""
    of_daily_limit: float


@dataclass(frozen=True)
class Row:
    """`at`: the day, or when the ten minutes begin. `cells`: calls by series, in their order. `total`: all calls."""

    at: date | datetime
    cells: list[int]
    total: int
    limit: int | None = None


@dataclass(frozen=True)
class Chart:
    """`drawn`: labels, series (with `name` and `values`) and limit, as static/alexandria/dashboard.js takes them."""

    series: list[str]
    rows: list[Row]
    drawn: dict[str, Any]


def gauge(status: QuotaStatus) -> list[Part]:
    """The four parts of the day's calls. When observing, more than the safety limit may be used, out of the buffer."""
    used, reserved, free = status.used, status.reserved, status.remaining
    buffer = max(0, status.daily_limit - used - reserved - free)

    def part(name: str, meaning: str, calls: int, *, touchable: bool = True) -> Part:
        of_safety = 100 * calls / max(1, status.safety_limit) if touchable else None
        return Part(name, meaning, calls, of_safety, 100 * calls / max(1, status.daily_limit))

    return [
        part("used", "sent to ISBNdb, whatever became of it", used),
        part("set aside", "for operations under way", reserved),
        part("free", "neither used nor set aside", free),
        part("buffer", "never touched", buffer, touchable=False),
    ]


def series_of(quota: QuotaDashboard) -> list[str]:
    """The consumers that are told apart (slugs), those first that used most; with "others" when there are more."""
    used: Counter[str] = Counter()
    for day in quota.history:
        used.update({usage.consumer.slug: usage.used for usage in day.consumers})
    for slot in quota.today.slots:
        used.update(dict.fromkeys(slot.calls, 0))
    names = sorted(used, key=lambda slug: (-used[slug], slug))
    return names if len(names) <= MOST_SERIES + 1 else [*names[:MOST_SERIES], OTHERS]


def day_chart(quota: QuotaDashboard, series: list[str]) -> Chart:
    """Calls a minute of today, each bar the average of ten minutes; in the table the calls themselves."""
    status = quota.status
    midnight = begin_of(status.day)
    rows = [
        Row(slot.begins_at, _cells(slot.calls, series), sum(slot.calls.values())) for slot in quota.today.slots
    ]  # fmt: skip
    by_slot = {(row.at - midnight) // SLOT: row for row in rows}
    values = [
        {
            "name": name,
            "values": [
                round(by_slot[slot].cells[number] / _minutes_gone(status.now - midnight - slot * SLOT), 2)
                if slot in by_slot
                else 0
                for slot in range(SLOTS_A_DAY)
            ],
        }
        for number, name in enumerate(series)
    ]
    labels = [f"{midnight + slot * SLOT:%H:%M}" for slot in range(SLOTS_A_DAY)]
    return Chart(series, rows, {"labels": labels, "series": values})


def month_chart(quota: QuotaDashboard, series: list[str]) -> Chart:
    """Calls of each of the last 30 days, against the safety limit of each."""
    rows = [
        Row(
            day.day,
            _cells({usage.consumer.slug: usage.used for usage in day.consumers}, series),
            day.used,
            day.safety_limit,
        )
        for day in quota.history
    ]
    by_day = {row.at: row for row in rows}
    days = [quota.status.day - timedelta(days=ago) for ago in reversed(range(HISTORY_DAYS))]
    values = [
        {"name": name, "values": [by_day[day].cells[number] if day in by_day else 0 for day in days]}
        for number, name in enumerate(series)
    ]
    limit = [by_day[day].limit if day in by_day else None for day in days]
    return Chart(series, rows, {"labels": [f"{day:%d %b}" for day in days], "series": values, "limit": limit})


def _cells(calls: Mapping[str, int], series: list[str]) -> list[int]:
    cells = [calls.get(name, 0) for name in series]
    if series[-1:] == [OTHERS]:
        cells[-1] = sum(calls.values()) - sum(cells[:-1])
    return cells


def _minutes_gone(since: timedelta) -> float:
    """How much of ten minutes that began so long ago has gone by: of those under way, at least the first minute."""
    return max(1.0, min(float(SLOT_MINUTES), since / timedelta(minutes=1)))
