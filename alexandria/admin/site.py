"""The frame of every page: the sidebar, and the badge for unusual modes."""

from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from django.urls import reverse

from quota.models import Switches

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Page:
    """A link in the sidebar. `url` is the name of the page in the admin. One of `permissions` is enough to open it."""

    title: str
    icon: str
    url: str
    permissions: tuple[str, ...]

    def seen_by(self, user: User | AnonymousUser) -> bool:
        return any(user.has_perm(permission) for permission in self.permissions)


def _list_of(model: str, title: str, icon: str) -> Page:
    """The list of a model, which is given as "<app>.<model>"."""
    app, name = model.split(".")
    return Page(title, icon, f"{app}_{name}_changelist", (f"{app}.view_{name}", f"{app}.change_{name}"))


GROUPS = {
    "Quota": [
        _list_of("quota.dailyledger", "Ledgers", "calendar_month"),
        _list_of("quota.call", "Requests", "receipt_long"),
        _list_of("quota.reservation", "Reservations", "bookmark"),
        _list_of("quota.refusal", "Refusals", "block"),
        _list_of("quota.consumer", "Consumers", "group"),
        _list_of("quota.switches", "Switches", "toggle_on"),
        _list_of("quota.adjustment", "Adjustments", "exposure"),
        _list_of("quota.reconciliation", "Reconciliations", "balance"),
        _list_of("quota.pricemeasurement", "Measured prices", "sell"),
    ],
    "Books": [
        _list_of("enrichment.edition", "Books", "menu_book"),
        _list_of("enrichment.work", "Works", "auto_stories"),
        _list_of("enrichment.author", "Authors", "history_edu"),
        _list_of("enrichment.miss", "Misses", "search_off"),
        _list_of("enrichment.authormiss", "Author misses", "person_off"),
        _list_of("enrichment.feedfollowing", "Update feed", "rss_feed"),
        Page("Check ISBNs", "checklist", "check_isbns", ("enrichment.view_edition",)),
        Page("Your lists", "list_alt_check", "your_lists", ("enrichment.view_job",)),
    ],
    "Work": [
        _list_of("enrichment.job", "Jobs", "work"),
        Page("New bulk harvest", "playlist_add", "bulk_harvest", ("enrichment.view_job",)),
        _list_of("enrichment.queuedisbn", "Queue", "low_priority"),
        _list_of("harvest.harvestrun", "Runs", "play_circle"),
        _list_of("harvest.cronstate", "Crons", "schedule"),
        _list_of("django_celery_beat.periodictask", "Periodic tasks", "event_repeat"),
        _list_of("django_celery_beat.crontabschedule", "Crontabs", "calendar_clock"),
        _list_of("django_celery_beat.intervalschedule", "Intervals", "timer"),
    ],
    "Alerts": [
        _list_of("alerts.alert", "Alerts", "notifications"),
        _list_of("alerts.webhook", "Webhooks", "webhook"),
        _list_of("alerts.delivery", "Deliveries", "outgoing_mail"),
    ],
    "Staff": [
        _list_of("auth.user", "Users", "person"),
        _list_of("auth.group", "Groups", "groups"),
        _list_of("logins.login", "Log-ins", "login"),
        _list_of("admin.logentry", "Changes", "history"),
    ],
}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups of links for unfold. Pages that the user has no permission for are left out.

    The page with the longest address that the current one begins with is the current one: some are below others.
    """
    pages = {
        title: [
            {"title": page.title, "icon": page.icon, "link": reverse(f"admin:{page.url}")}
            for page in pages
            if page.seen_by(request.user)
        ]
        for title, pages in GROUPS.items()
    }
    items: list[dict[str, Any]] = [{"title": "Dashboard", "icon": "speed", "link": reverse("admin:index")}]
    items += chain.from_iterable(pages.values())
    around = [item["link"] for item in items if request.path.startswith(item["link"])]
    for item in items:
        item["active"] = item["link"] == max(around, key=len, default="")
    return [{"items": items[:1]}, *({"title": title, "items": group} for title, group in pages.items() if group)]


def environment(request: HttpRequest) -> list[str] | None:
    """The badge beside the user's name: its text and colour, as unfold expects them.

    None in the usual mode, and for a person who has not logged in.
    """
    if not request.user.is_authenticated:
        return None
    switches = Switches.objects.first() or Switches()
    modes = []
    if (switches.enforcement or settings.QUOTA_ENFORCEMENT) == "observe":
        modes.append("observe mode")
    if not switches.harvest_enabled:
        modes.append("harvest off")
    colour = "warning" if modes else "info"
    if urlsplit(settings.ISBNDB_BASE_URL).hostname in LOOPBACK:
        modes.append("sandbox")
    return [", ".join(modes), colour] if modes else None
