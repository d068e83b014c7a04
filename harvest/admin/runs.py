"""The operator's view of the harvest: what ran, what came of it, and a way to run it now."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from kombu.exceptions import OperationalError

from harvest.exceptions import RunUnderWay
from harvest.models import CronState, HarvestRun
from harvest.services import forget_cursor
from harvest.tasks import run_cron
from quota.admin.base import ReadOnlyAdmin


@admin.register(HarvestRun)
class HarvestRunAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "cron", "outcome", "calls", "books", "repeats", "reason", "ended_at")
    list_filter = ("outcome", "cron")
    date_hierarchy = "started_at"
    search_fields = ("id__exact", "reason")


@admin.register(CronState)
class CronStateAdmin(ReadOnlyAdmin):
    """Schedules are edited under “Periodic tasks”."""

    list_display = ("name", "last_tick_at", "run", "lease_until", "cursor")
    list_select_related = ("run",)
    actions = ("run_now", "forget_cursors")

    def has_run_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("harvest.change_cronstate"))

    @admin.action(description="Run now, whatever the schedule says", permissions=["run"])
    def run_now(self, request: HttpRequest, states: QuerySet[CronState]) -> None:
        names = list(states.values_list("name", flat=True))
        try:
            for name in names:
                run_cron.delay(name, scheduled=False)
        except OperationalError as error:
            messages.error(request, f"Redis is out of reach: {error}")
            return
        word = "cron" if len(names) == 1 else "crons"
        messages.success(request, f"{len(names)} {word} handed to the workers: {', '.join(names)}.")

    @admin.action(description="Forget the cursor: the next run begins anew", permissions=["run"])
    def forget_cursors(self, request: HttpRequest, states: QuerySet[CronState]) -> None:
        forgotten = []
        for name in states.values_list("name", flat=True):
            try:
                forget_cursor(name)
            except RunUnderWay as error:
                messages.error(request, str(error))
            else:
                forgotten.append(name)
        word = "cron begins" if len(forgotten) == 1 else "crons begin"
        messages.success(request, f"{len(forgotten)} {word} anew: {', '.join(forgotten)}.")
