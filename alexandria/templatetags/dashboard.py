"""How lengths of time stand on the dashboard."""

from datetime import timedelta

from django import template

register = template.Library()


@register.filter
def span(length: timedelta) -> str:
    """A length of time in its two largest units, rounded down: "3 h 05 min", "4 min 30 s", "2 d 7 h"; "0 s" below 0."""
    minutes, seconds = divmod(max(0, int(length.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
