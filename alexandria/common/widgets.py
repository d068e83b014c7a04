"""What the cells and cards of the admin are made of: bars with their figures, and links.

The colours of a bar are in static/alexandria/admin.css. The page always shows its figures as text too, so a screen
reader skips the bar itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString


@dataclass(frozen=True)
class Part:
    """One part of a bar. `kind` selects its colour, `width` is its share of the bar in per cent."""

    label: str
    kind: str
    amount: int
    width: str


def parts(amounts: Sequence[tuple[str, str, int]]) -> list[Part]:
    """The parts of a full bar. Each is given as a label, a kind and an amount."""
    total = max(1, sum(max(0, amount) for _, _, amount in amounts))
    return [Part(label, kind, amount, f"{100 * max(0, amount) / total:.2f}") for label, kind, amount in amounts]


def parts_of_day(
    *, daily_limit: int, safety_limit: int, used: int, reserved: int, is_closed: bool = False
) -> list[Part]:
    """The calls of a day: used, reserved, free, and the buffer, which only calls made outside Alexandria can use.

    In observe mode more than the safety limit can be used. Those calls come out of the buffer. A closed day has nothing
    free: what would be is a part of its own.
    """
    spent = used + reserved
    free = max(0, safety_limit - spent)
    return parts(
        [
            ("used", "used", used),
            ("reserved", "reserved", reserved),
            ("free", "free", 0 if is_closed else free),
            *([("closed", "closed", free)] if is_closed else []),
            ("buffer", "buffer", max(0, daily_limit - max(safety_limit, spent))),
        ]
    )


def share(amount: int, total: int) -> list[Part]:
    """A bar filled to `amount` of `total`, at most full."""
    filled = min(amount, total)
    return parts([("", "used", filled), ("", "free", total - filled)])


def cell(figures: str, of: list[Part]) -> SafeString:
    """A cell of a list: the figures, and a small bar below them."""
    return format_html(
        '<span class="alx-cell">{}{}</span>', figures, render_to_string("common/bar.html", {"parts": of})
    )


def progress(done: int, total: int, unit: str) -> SafeString:
    """A cell that says how much is done: "5 of 20 ISBNs", and the bar."""
    return cell(f"{done:,} of {total:,} {unit}", share(done, total))


def percentage(done: int, total: int) -> str:
    """Such as "41 %", rounded down, or "less than 1 %". Nothing to do counts as 100 %."""
    whole = 100 * done // total if total else 100
    return "less than 1 %" if done > 0 == whole else f"{whole} %"


def link(address: str, text: object) -> SafeString:
    return format_html('<a class="alx-link" href="{}">{}</a>', address, text)
