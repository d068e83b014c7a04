"""Steps that the browser tests share, and the checks that every page must pass."""

import re

from axe_playwright_python.base import AXE_SCRIPT
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page, ViewportSize, expect

WIDE: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
ALL_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
COLOUR_AND_SIZE_RULES = ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "nested-interactive"]
"""Rules of axe-core, or sets of rules. The second list is for the same page in other colours and another width."""
EXCLUDED = [
    ".search-label-icon",  # Django's SelectFilter2.js gives this span an aria-label; the field beside it has one, too
]
SERIOUS = {"serious", "critical"}


def sign_in(tab: Page, user: User, *, site: str) -> None:
    """Logs a user in without the form. The form has its own test."""
    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    tab.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": site}])


def flaws(tab: Page) -> list[str]:
    """The problems of the page: violations found by axe-core, and elements that are too wide.

    The page is checked light and wide, and dark on a phone. Not every combination is checked, because the check takes
    most of the time of the browser tests.
    """
    found = []
    for theme, size, rules in (("light", WIDE, ALL_RULES), ("dark", PHONE, COLOUR_AND_SIZE_RULES)):
        tab.set_viewport_size(size)
        set_theme(tab, theme)
        where = f"{tab.url}, {theme}, {size['width']} wide"
        found += [f"{where}: {flaw}" for flaw in (*faults(tab, rules), *overhang(tab))]
    tab.set_viewport_size(WIDE)
    return found


def set_theme(tab: Page, theme: str) -> None:
    """Presses unfold's shortcut until the page has the theme."""
    root, dark = tab.locator("html"), re.compile(r"\bdark\b")
    for _ in range(2):
        if bool(dark.search(root.get_attribute("class") or "")) == (theme == "dark"):
            break
        tab.keyboard.press("Control+e")
    if theme == "dark":
        expect(root).to_have_class(dark)
    else:
        expect(root).not_to_have_class(dark)


def faults(tab: Page, only: list[str]) -> list[str]:
    """The serious and critical violations, each with up to three of its elements."""
    if not tab.evaluate("'axe' in window"):
        tab.evaluate(AXE_SCRIPT)
    found = tab.evaluate(
        "([context, options]) => axe.run(context, options).then(results => results.violations)",
        [{"exclude": EXCLUDED}, {"runOnly": only, "resultTypes": ["violations"]}],
    )
    serious = [fault for fault in found if fault["impact"] in SERIOUS]
    return [f"{fault['id']}: {fault['help']}: {[node['html'] for node in fault['nodes'][:3]]}" for fault in serious]


def overhang(tab: Page) -> list[str]:
    """The elements that make the whole page scroll sideways. There should be none."""
    return list(
        tab.evaluate(
            """() => {
                const width = document.documentElement.clientWidth;
                if (document.documentElement.scrollWidth <= width) return [];
                return [...document.body.querySelectorAll("*")]
                    .filter(element => element.getBoundingClientRect().right > width + 1)
                    .slice(0, 5)
                    .map(element => "too wide: " + element.outerHTML.slice(0, 200));
            }"""
        )
    )
