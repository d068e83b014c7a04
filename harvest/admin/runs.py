"""The operator's view of the harvest: what ran, what came of it, and ways to run, pause and resume it."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe
from kombu.exceptions import OperationalError
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.paginator import InfinitePaginator

from alexandria.common.admin import ReadOnlyAdmin
from enrichment.admin.dialogs import ReasonForm, ask, leave_to
from enrichment.admin.widgets import link
from harvest import runs
from harvest.exceptions import CronUnknown, RunUnderWay
from harvest.models import CronState, HarvestRun
from harvest.schedules import schedules_by_cron
from harvest.selectors import CronStanding, cron_standings
from harvest.tasks import run_cron

OUTCOME_COLOURS = {
    HarvestRun.Outcome.RUNNING.label: "primary",
    HarvestRun.Outcome.SUCCEEDED.label: "success",
    HarvestRun.Outcome.SKIPPED.label: "warning",
    HarvestRun.Outcome.STOPPED.label: "warning",
    HarvestRun.Outcome.FAILED.label: "danger",
}


@admin.register(HarvestRun)
class HarvestRunAdmin(ReadOnlyAdmin):
    list_display = (
        *("started_at", "cron", "outcome_label", "duration", "calls", "books", "books_per_call", "repeats"),
        *("reason_in_short", "spent_by"),
    )
    list_filter = ("outcome", "cron")
    date_hierarchy = "started_at"
    paginator = InfinitePaginator
    search_fields = ("id__exact", "reason")
    search_help_text = "The number of a run, or a part of the reason."
    fieldsets = (
        (None, {"fields": ("cron", "outcome_label", "reason", "started_at", "ended_at", "duration", "repeats")}),
        ("Figures", {"fields": ("calls", "books", "books_per_call", "spent_by")}),
        ("Where the next run goes on", {"fields": ("cursor",)}),
    )

    @display(description="outcome", ordering="outcome", label=OUTCOME_COLOURS)
    def outcome_label(self, run: HarvestRun) -> str:
        return run.get_outcome_display()

    @admin.display(description="took")
    def duration(self, run: HarvestRun) -> str:
        """Of one run; a row of several that did nothing has the time from the first to the last."""
        if run.ended_at is None:
            return "under way"
        return "" if run.repeats else _lasting(run.ended_at - run.started_at)

    @admin.display(description="books a call")
    def books_per_call(self, run: HarvestRun) -> str:
        return f"{run.books / run.calls:,.1f}" if run.calls else ""

    @admin.display(description="why", ordering="reason")
    def reason_in_short(self, run: HarvestRun) -> str:
        return run.reason if len(run.reason) <= 80 else f"{run.reason[:79]}…"

    @admin.display(description="what it spent")
    def spent_by(self, run: HarvestRun) -> SafeString | str:
        if not run.calls:
            return ""
        return link(f"{reverse('admin:quota_reservation_changelist')}?source=run:{run.pk}", "its reservations")


@admin.register(CronState)
class CronStateAdmin(ReadOnlyAdmin):
    """Schedules are edited under “Periodic tasks”."""

    list_display = ("name", "schedule", "standing_label", "due_at", "last_tick_at", "run", "cursor")
    list_select_related = ("run",)
    actions = ("run_now", "pause", "resume", "forget_cursors")
    actions_detail = ("run_one", "pause_one", "resume_one")
    fields = (*("name", "schedule", "standing_label", "due_at", "last_tick_at", "run", "lease_until", "cursor"), "runs")

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        _set_standings(changelist.result_list)
        return changelist

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> CronState | None:
        state: CronState | None = super().get_object(request, object_id, from_field)
        if state is not None and request.method == "GET":
            _set_standings([state])
        return state

    @admin.display(description="schedule")
    def schedule(self, state: Any) -> SafeString | str:
        standing: CronStanding = state.standing
        links = format_html_join(mark_safe("<br>"), "{}", ((_schedule_link(task),) for task in standing.tasks))
        return links or "none: it runs when told to"

    @display(description="state", label={"running": "primary", "paused": "warning", "waits for its turn": "success"})
    def standing_label(self, state: Any) -> str:
        if state.run_id is not None:
            return "running"
        if state.standing.is_paused:
            return "paused"
        return "waits for its turn" if state.standing.tasks else "not scheduled"

    @admin.display(description="next due")
    def due_at(self, state: Any) -> str:
        due_at: datetime | None = state.standing.due_at
        return f"{due_at:%Y-%m-%d %H:%M:%S}" if due_at else ""

    @admin.display(description="its runs")
    def runs(self, state: CronState) -> SafeString:
        return link(f"{reverse('admin:harvest_harvestrun_changelist')}?cron={state.name}", "show")

    def has_run_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return bool(request.user.has_perm("harvest.change_cronstate"))

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[UnfoldAction]:
        """Those that would change something as its schedules stand."""
        tasks = schedules_by_cron().get(object_id, [])
        useful = {True: "pause_one", False: "resume_one"}
        offered = {"run_one", *(useful[task.enabled] for task in tasks)}
        actions = super().get_actions_detail(request, object_id)
        return [each for each in actions if each.method.original_function_name in offered]

    @admin.action(description="Run now, whatever the schedule says", permissions=["run"])
    def run_now(self, request: HttpRequest, states: QuerySet[CronState]) -> None:
        self._run(request, states)

    @admin.action(description="Pause: switch the schedule off", permissions=["run"])
    def pause(self, request: HttpRequest, states: QuerySet[CronState]) -> None:
        self._switch(request, states, runs.pause_cron, "paused")

    @admin.action(description="Resume: switch the schedule on", permissions=["run"])
    def resume(self, request: HttpRequest, states: QuerySet[CronState]) -> None:
        self._switch(request, states, runs.resume_cron, "resumed")

    @admin.action(description="Forget the cursor: the next run begins anew", permissions=["run"])
    def forget_cursors(self, request: HttpRequest, states: QuerySet[CronState]) -> None:
        forgotten = []
        for state in states:
            try:
                runs.forget_cursor(state.name)
            except RunUnderWay as error:
                messages.error(request, str(error))
            else:
                forgotten.append(state.name)
                self.log_change(request, state, "Cursor forgotten.")
        word = "cron begins" if len(forgotten) == 1 else "crons begin"
        messages.success(request, f"{len(forgotten)} {word} anew: {', '.join(forgotten)}.")

    @action(
        description="Run now",
        url_path="run",
        permissions=["run"],
        icon="play_arrow",
        dialog=ask("Run it now?", "Whatever the schedule says. It may spend calls, as on its schedule.", "Run now"),
    )
    def run_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        self._run(request, CronState.objects.filter(pk=object_id))
        return _back_to(request, object_id)

    @action(
        description="Pause",
        url_path="pause",
        permissions=["run"],
        icon="pause",
        dialog=ask("Switch its schedule off?", "A run that is under way goes on.", "Pause", ReasonForm),
    )
    def pause_one(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        said = f"Paused: {form.cleaned_data['reason']}"
        self._switch(request, CronState.objects.filter(pk=object_id), runs.pause_cron, "paused", said)
        return _back_to(request, object_id)

    @action(
        description="Resume",
        url_path="resume",
        permissions=["run"],
        icon="resume",
        dialog=ask("Switch its schedule on again?", "It runs when it is next due.", "Resume"),
    )
    def resume_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        self._switch(request, CronState.objects.filter(pk=object_id), runs.resume_cron, "resumed")
        return _back_to(request, object_id)

    def _run(self, request: HttpRequest, states: Iterable[CronState]) -> None:
        names = []
        try:
            for state in states:
                run_cron.delay(state.name, scheduled=False)
                names.append(state.name)
                self.log_change(request, state, "Run now.")
        except OperationalError as error:
            messages.error(request, f"Redis is out of reach: {error}")
            return
        word = "cron" if len(names) == 1 else "crons"
        messages.success(request, f"{len(names)} {word} handed to the workers: {', '.join(names)}.")

    def _switch(
        self,
        request: HttpRequest,
        states: Iterable[CronState],
        switch: Callable[[str], int],
        done: str,
        said: str = "",
    ) -> None:
        switched = []
        for state in states:
            try:
                changed = switch(state.name)
            except CronUnknown as error:
                messages.error(request, str(error))
                continue
            if changed:
                switched.append(state.name)
                self.log_change(request, state, said or f"{done.capitalize()}.")
        word = "cron" if len(switched) == 1 else "crons"
        messages.success(request, f"{len(switched)} {word} {done}{': ' if switched else ''}{', '.join(switched)}.")


def _set_standings(states: Iterable[Any]) -> None:
    standings = cron_standings(states)
    for state in states:
        state.standing = standings[state.name]


def _schedule_link(task: Any) -> SafeString:
    address = reverse("admin:django_celery_beat_periodictask_change", args=[task.pk])
    return link(address, f"{task.scheduler}{'' if task.enabled else ' (off)'}")


def _back_to(request: HttpRequest, name: str) -> HttpResponse:
    return leave_to(request, reverse("admin:harvest_cronstate_change", args=[name]))


def _lasting(time: timedelta) -> str:
    seconds = time.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
