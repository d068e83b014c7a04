"""Bars of use: what is used, set aside, free and never touched, each with its figure beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.template.loader import render_to_string


@dataclass(frozen=True)
class Part:
    """One part of a bar. `kind` is its look (static/quota/admin.css), `width` its part of the bar in per cent."""

    label: str
    kind: str
    calls: int
    width: str


def parts(calls: Sequence[tuple[str, str, int]]) -> list[Part]:
    """The parts of a bar that is as long as all of them together; each a label, a kind and a number of calls."""
    total = max(1, sum(max(0, number) for _, _, number in calls))
    return [Part(label, kind, number, f"{100 * max(0, number) / total:.2f}") for label, kind, number in calls]


def parts_of_day(*, daily_limit: int, safety_limit: int, used: int, reserved: int) -> list[Part]:
    """A day's calls: used, set aside, free, and the buffer, of which only calls made outside can take."""
    spent = used + reserved
    return parts(
        [
            ("used", "used", used),
            ("set aside", "reserved", reserved),
            ("free", "free", max(0, safety_limit - spent)),
            ("buffer", "buffer", max(0, daily_limit - max(safety_limit, spent))),
        ]
    )


def share(calls: int, of: int) -> list[Part]:
    """The parts of a bar that shows so many calls of so many, and no more than all of them."""
    shown = min(calls, of)
    return parts([("", "used", shown), ("", "free", of - shown)])


def rendered(of: list[Part]) -> str:
    """A small bar, to stand beside its figures."""
    return render_to_string("quota/admin/bar.html", {"parts": of})
