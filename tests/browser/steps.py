"""What tests do in a browser, and what every page has to stand up to."""

import re

from axe_playwright_python.base import AXE_SCRIPT
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page, ViewportSize, expect

WIDE: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
EVERY_RULE = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
OF_COLOUR_AND_SIZE = ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "nested-interactive"]
"""axe-core's rules, or sets of them: the second for a page that is the same but for its colours and its width."""
NOT_OURS = [
    ".search-label-icon",  # Django's SelectFilter2.js gives this span an aria-label; the field beside it has its own
]
SERIOUS = {"serious", "critical"}


def sign_in(tab: Page, user: User, *, site: str) -> None:
    """Logs a user in without the form, which has a test of its own."""
    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    tab.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": site}])


def flaws(tab: Page) -> list[str]:
    """What is wrong with the page, light and wide as well as dark and on a phone: axe-core's word, and what hangs over.

    It takes most of the time of the tests in a browser, so that not every pair of the two is tried.
    """
    found = []
    for theme, size, rules in (("light", WIDE, EVERY_RULE), ("dark", PHONE, OF_COLOUR_AND_SIZE)):
        tab.set_viewport_size(size)
        set_theme(tab, theme)
        where = f"{tab.url}, {theme}, {size['width']} wide"
        found += [f"{where}: {flaw}" for flaw in (*faults(tab, rules), *overhang(tab))]
    tab.set_viewport_size(WIDE)
    return found


def set_theme(tab: Page, theme: str) -> None:
    """Presses unfold's own keys until the page is light or dark."""
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
    """What axe-core calls serious or critical, each with three of the elements concerned."""
    if not tab.evaluate("'axe' in window"):
        tab.evaluate(AXE_SCRIPT)
    found = tab.evaluate(
        "([context, options]) => axe.run(context, options).then(results => results.violations)",
        [{"exclude": NOT_OURS}, {"runOnly": only, "resultTypes": ["violations"]}],
    )
    serious = [fault for fault in found if fault["impact"] in SERIOUS]
    return [f"{fault['id']}: {fault['help']}: {[node['html'] for node in fault['nodes'][:3]]}" for fault in serious]


def overhang(tab: Page) -> list[str]:
    """The elements because of which the page as a whole has to be scrolled sideways; none is as it should be."""
    return list(
        tab.evaluate(
            """() => {
                const width = document.documentElement.clientWidth;
                if (document.documentElement.scrollWidth <= width) return [];
                return [...document.body.querySelectorAll("*")]
                    .filter(element => element.getBoundingClientRect().right > width + 1)
                    .slice(0, 5)
                    .map(element => "hangs over: " + element.outerHTML.slice(0, 200));
            }"""
        )
    )
