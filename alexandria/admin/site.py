"""The frame of every page: the sidebar, and the badge that says in what state everything is."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from quota.models import Switches

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Page:
    """A link of the sidebar to a model's list ("<app>.<model>"), for those who may look at it."""

    model: str
    title: str
    icon: str

    def seen_by(self, request: HttpRequest) -> bool:
        app, model = self.model.split(".")
        return bool(request.user.has_perm(f"{app}.view_{model}") or request.user.has_perm(f"{app}.change_{model}"))

    @property
    def link(self) -> str:
        return reverse(f"admin:{self.model.replace('.', '_')}_changelist")


GROUPS = {
    "Quota": [
        Page("quota.dailyledger", "Ledgers", "calendar_month"),
        Page("quota.call", "Calls", "receipt_long"),
        Page("quota.reservation", "Reservations", "bookmark"),
        Page("quota.refusal", "Refusals", "block"),
        Page("quota.consumer", "Consumers", "group"),
        Page("quota.switches", "Switches", "toggle_on"),
        Page("quota.adjustment", "Adjustments", "exposure"),
        Page("quota.reconciliation", "Reconciliations", "balance"),
    ],
    "Books": [
        Page("enrichment.edition", "Books", "menu_book"),
        Page("enrichment.work", "Works", "auto_stories"),
        Page("enrichment.author", "Authors", "history_edu"),
        Page("enrichment.miss", "Misses", "search_off"),
    ],
    "Work": [
        Page("enrichment.job", "Jobs", "work"),
        Page("enrichment.wish", "Queue", "low_priority"),
        Page("harvest.harvestrun", "Runs", "play_circle"),
        Page("harvest.cronstate", "Crons", "schedule"),
        Page("harvest.bulkharvest", "Bulk harvests", "agriculture"),
        Page("django_celery_beat.periodictask", "Periodic tasks", "event_repeat"),
        Page("django_celery_beat.crontabschedule", "Crontabs", "calendar_clock"),
        Page("django_celery_beat.intervalschedule", "Intervals", "timer"),
    ],
    "Staff": [
        Page("auth.user", "Users", "person"),
        Page("auth.group", "Groups", "groups"),
    ],
}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups of links for unfold, without what this person may not open."""
    dashboard = {"title": "Dashboard", "icon": "speed", "link": reverse("admin:index")}
    groups = [
        {
            "title": title,
            "items": [
                {"title": page.title, "icon": page.icon, "link": page.link} for page in pages if page.seen_by(request)
            ],
        }
        for title, pages in GROUPS.items()
    ]
    return [{"items": [dashboard]}, *(group for group in groups if group["items"])]


def environment(request: HttpRequest) -> list[str] | None:
    """The badge beside the user's name, in unfold's form: its text and colour; None where everything is as usual."""
    switches = Switches.objects.first() or Switches()
    said = []
    if (switches.enforcement or settings.QUOTA_ENFORCEMENT) == "observe":
        said.append("observe mode")
    if not switches.harvest_enabled:
        said.append("harvest off")
    colour = "warning" if said else "info"
    if urlsplit(settings.ISBNDB_BASE_URL).hostname in LOOPBACK:
        said.append("sandbox")
    return [", ".join(said), colour] if said else None
