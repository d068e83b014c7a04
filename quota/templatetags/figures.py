"""Figures as people read them."""

from django import template

register = template.Library()


@register.filter
def figure(value: int | None) -> str:
    """With a comma after each three digits; "none" for None."""
    return "none" if value is None else f"{value:,}"
