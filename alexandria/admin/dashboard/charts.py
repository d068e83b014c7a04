"""The bar and the charts of the dashboard, each with its table. The server computes everything, the browser draws."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from django.urls import reverse

from alexandria.common.widgets import Part, parts_of_day
from quota.models import DailyLedger
from quota.selectors.dashboard import HISTORY_DAYS, SLOT, QuotaDashboard
from quota.selectors.status import QuotaStatus, begin_of

MAX_SERIES = 7
"""Consumers with a colour of their own. The others share one."""

OTHERS = "others"
FAR_AWAY = 2
"""A line of limits so many times as high as the highest bar is left out: it would press the bars flat."""

SLOT_MINUTES = SLOT // timedelta(minutes=1)
SLOTS_A_DAY = timedelta(days=1) // SLOT
MEANINGS = {
    "used": "spent on requests to ISBNdb, with any outcome",
    "reserved": "held for operations that are running",
    "free": "neither used nor reserved",
    "closed": "not granted, because ISBNdb has closed the day",
    "buffer": "never used by Alexandria",
}


@dataclass(frozen=True)
class Share:
    """A part of today's calls, in per cent of the safety limit (None for the buffer) and of the daily limit."""

    part: Part
    meaning: str
    of_safety_limit: float | None
    of_daily_limit: float


@dataclass(frozen=True)
class Series:
    """A consumer in a chart. `colour` is the number of its colour, which is the same in both charts."""

    name: str
    colour: int


@dataclass(frozen=True)
class Row:
    """A day, or ten minutes of today (`at` is when they begin). `cells` are the calls by series, in their order."""

    at: date | datetime
    label: str
    cells: list[int]
    total: int
    limit: int | None = None
    url: str = ""


@dataclass(frozen=True)
class Chart:
    """One chart and its texts. It has only the series with a call in its time.

    `drawn` is what static/alexandria/dashboard.js draws: labels, series and limits. `has_limits`: the rows have them.

    `left_out` is the number of calls that the chart cannot show. `label_every` leaves out labels of the x axis.
    """

    name: str
    title: str
    note: str
    empty: str
    unit: str
    table_title: str
    first_column: str
    series: list[Series]
    rows: list[Row]
    drawn: dict[str, Any]
    has_limits: bool = False
    label_every: int | None = None
    left_out: int = 0

    @property
    def newest_first(self) -> list[Row]:
        return sorted(self.rows, key=lambda row: row.at, reverse=True)


def parts_of_today(status: QuotaStatus) -> list[Part]:
    return parts_of_day(
        daily_limit=status.daily_limit,
        safety_limit=status.safety_limit,
        used=status.used,
        reserved=status.reserved,
        is_closed=status.closed_reason is not None,
    )


def shares_of_today(status: QuotaStatus) -> list[Share]:
    return [
        Share(
            part=part,
            meaning=MEANINGS[part.kind],
            of_safety_limit=None if part.kind == "buffer" else 100 * part.amount / max(1, status.safety_limit),
            of_daily_limit=100 * part.amount / max(1, status.daily_limit),
        )
        for part in parts_of_today(status)
    ]


def names_of(quota: QuotaDashboard) -> list[str]:
    """The consumers (slugs) that have a colour, the largest first. "others" comes last if there are too many."""
    used: Counter[str] = Counter()
    for day in quota.history:
        used.update(_used_by(day))
    for slot in quota.today.slots:
        used.update(dict.fromkeys(slot.calls, 0))
    names = sorted(used, key=lambda slug: (-used[slug], slug))
    return names if len(names) <= MAX_SERIES + 1 else [*names[:MAX_SERIES], OTHERS]


def day_chart(quota: QuotaDashboard, names: list[str]) -> Chart:
    """Calls a minute of today, averaged over ten minutes. The table has the calls of each ten minutes."""
    status = quota.status
    midnight = begin_of(status.day)
    rows = [
        Row(slot.begins_at, f"{slot.begins_at:%H:%M}", _cells(slot.calls, names), sum(slot.calls.values()))
        for slot in quota.today.slots
    ]
    series, rows = _without_idle(names, rows)
    by_slot = {(row.at - midnight) // SLOT: row for row in rows}
    minutes = {slot: _minutes_of(status.now - midnight - slot * SLOT) for slot in by_slot}
    values = [
        asdict(each)
        | {
            "values": [
                round(by_slot[slot].cells[number] / minutes[slot], 2) if slot in by_slot else 0
                for slot in range(SLOTS_A_DAY)
            ]
        }
        for number, each in enumerate(series)
    ]
    labels = [f"{midnight + slot * SLOT:%H:%M}" for slot in range(SLOTS_A_DAY)]
    return Chart(
        name="day",
        title="Calls a minute today, by consumer",
        note="Each bar is the average of ten minutes. The last bar covers the minutes so far. Times are UTC.",
        empty="No request was sent today.",
        unit="calls a minute",
        table_title="Calls in each ten minutes",
        first_column="From (UTC)",
        series=series,
        rows=rows,
        drawn={"labels": labels, "series": values},
        label_every=12,
        left_out=quota.today.entered,
    )


def month_chart(quota: QuotaDashboard, names: list[str]) -> Chart:
    """Calls of each of the last 30 days, with the safety limit of each day if it is near."""
    rows = [
        Row(
            at=day.day,
            label=f"{day.day}",
            cells=_cells(_used_by(day), names),
            total=day.used,
            limit=day.safety_limit,
            url=reverse("admin:quota_dailyledger_change", args=[day.day]),
        )
        for day in quota.history
    ]
    series, rows = _without_idle(names, rows)
    by_day = {row.at: row for row in rows}
    days = [quota.status.day - timedelta(days=ago) for ago in reversed(range(HISTORY_DAYS))]
    values = [
        asdict(each) | {"values": [by_day[day].cells[number] if day in by_day else 0 for day in days]}
        for number, each in enumerate(series)
    ]
    limits = [day.safety_limit for day in quota.history]
    is_near = min(limits, default=0) < FAR_AWAY * max((row.total for row in rows), default=0)
    drawn = {"labels": [f"{day:%d %b}" for day in days], "series": values}
    if is_near:
        drawn["limit"] = [by_day[day].limit if day in by_day else None for day in days]
    return Chart(
        name="month",
        title="Calls a day, the last 30 days, by consumer",
        note="The line is the safety limit of each day."
        if is_near
        else f"The safety limit, {quota.status.safety_limit:,} calls today, is far above the bars.",
        empty="There is no ledger yet. The first request opens one.",
        unit="calls a day",
        table_title="Calls of each day",
        first_column="Day",
        series=series,
        rows=rows,
        drawn=drawn,
        has_limits=True,
    )


def _used_by(day: DailyLedger) -> dict[str, int]:
    return {usage.consumer.slug: usage.used for usage in day.usages.all()}


def _cells(calls: Mapping[str, int], names: list[str]) -> list[int]:
    cells = [calls.get(name, 0) for name in names]
    if names[-1:] == [OTHERS]:
        cells[-1] = sum(calls.values()) - sum(cells[:-1])
    return cells


def _without_idle(names: list[str], rows: list[Row]) -> tuple[list[Series], list[Row]]:
    """The series with a call in one of the rows, and the rows with only their cells."""
    series = [Series(name, colour) for colour, name in enumerate(names) if any(row.cells[colour] for row in rows)]
    return series, [replace(row, cells=[row.cells[each.colour] for each in series]) for row in rows]


def _minutes_of(age: timedelta) -> float:
    """Over how many minutes a slot of that age is averaged: ten, or those that have passed, but at least one."""
    return max(1.0, min(float(SLOT_MINUTES), age / timedelta(minutes=1)))
