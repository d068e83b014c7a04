"""What cells of lists and pages are made of."""

from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString


def percentage(done: int, total: int) -> int:
    """Rounded down; where there is nothing to do, all is done."""
    return 100 * done // total if total else 100


def bar(done: int, total: int, unit: str) -> SafeString:
    """A bar for a list, with its figures below."""
    figures = f"{done:,} of {total:,} {unit}"
    shown = {"percentage": percentage(done, total), "label": figures, "class": "w-24"}
    return format_html("{}{}", render_to_string("enrichment/admin/bar.html", shown), figures)


def link(address: str, text: object) -> SafeString:
    return format_html('<a class="text-primary-600 dark:text-primary-400 underline" href="{}">{}</a>', address, text)
