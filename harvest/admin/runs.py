"""Crons and their runs. Operators can run, pause and resume a cron."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.paginator import InfinitePaginator

from alexandria.common.admin import ReadOnlyAdmin
from alexandria.common.publishing import publish
from alexandria.common.reasons import ReasonForm, close_dialog, confirm_dialog
from alexandria.common.text import counted, length_of_time
from alexandria.common.widgets import link
from harvest import runs
from harvest.exceptions import CronUnknown, RunUnderWay
from harvest.models import CronState, HarvestRun
from harvest.schedules import BY_HAND, TASK, schedules_by_cron
from harvest.selectors import CronStanding, cron_standings
from quota.selectors.status import get_status

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
        "started_at",
        "cron",
        "outcome_label",
        "duration",
        "calls",
        "books",
        "books_per_call",
        "repeats",
        "short_reason",
        "spent_by",
    )
    list_filter = ("outcome", "cron")
    date_hierarchy = "started_at"
    paginator = InfinitePaginator
    search_fields = ("id__exact", "reason")
    search_help_text = "Search by the number of a run, or by a part of the reason."
    fieldsets = (
        (None, {"fields": ("cron", "outcome_label", "reason", "started_at", "ended_at", "duration", "repeats")}),
        ("Figures", {"fields": ("calls", "books", "books_per_call", "spent_by")}),
        ("Where the next run continues", {"fields": ("cursor",)}),
    )

    @display(description="outcome", ordering="outcome", label=OUTCOME_COLOURS)
    def outcome_label(self, run: HarvestRun) -> str:
        return run.get_outcome_display()

    @admin.display(description="took")
    def duration(self, run: HarvestRun) -> str:
        """Empty for a row that combines several runs without work: its times are those of the first and the last."""
        if run.ended_at is None:
            return "running"
        return "" if run.repeats else length_of_time(run.ended_at - run.started_at)

    @admin.display(description="books per call")
    def books_per_call(self, run: HarvestRun) -> str:
        return f"{run.books / run.calls:,.1f}" if run.calls else ""

    @admin.display(description="why", ordering="reason")
    def short_reason(self, run: HarvestRun) -> str:
        return run.reason if len(run.reason) <= 80 else f"{run.reason[:79]}…"

    @admin.display(description="calls spent")
    def spent_by(self, run: HarvestRun) -> SafeString | str:
        if not run.calls:
            return ""
        return link(f"{reverse('admin:quota_reservation_changelist')}?source=run:{run.pk}", "reservations")


@admin.register(CronState)
class CronStateAdmin(ReadOnlyAdmin):
    """Schedules are edited on the page “Periodic tasks”."""

    list_display = ("name", "schedule", "standing_label", "due_at", "last_tick_at", "run", "cursor")
    list_select_related = ("run",)
    actions = ("run_now", "pause", "resume", "forget_cursors")
    actions_detail = ("run_one", "pause_one", "resume_one")
    fields = ("name", "schedule", "standing_label", "due_at", "last_tick_at", "run", "lease_until", "cursor", "runs")

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
        return links or "none: it runs only on demand"

    @display(description="state", label={"running": "primary", "paused": "warning", "scheduled": "success"})
    def standing_label(self, state: Any) -> str:
        if state.run_id is not None:
            return "running"
        if state.standing.is_paused:
            return "paused"
        return "scheduled" if state.standing.tasks else "not scheduled"

    @admin.display(description="next due")
    def due_at(self, state: Any) -> str:
        due_at: datetime | None = state.standing.due_at
        return f"{due_at:%Y-%m-%d %H:%M:%S}" if due_at else ""

    @admin.display(description="runs")
    def runs(self, state: CronState) -> SafeString:
        return link(f"{reverse('admin:harvest_harvestrun_changelist')}?cron={state.name}", "show")

    def has_run_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return bool(request.user.has_perm("harvest.change_cronstate"))

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[UnfoldAction]:
        """Only the actions that have an effect: pause for a schedule that is on, resume for one that is off."""
        tasks = schedules_by_cron().get(object_id, [])
        useful = {True: "pause_one", False: "resume_one"}
        offered = {"run_one", *(useful[task.enabled] for task in tasks)}
        actions = super().get_actions_detail(request, object_id)
        return [each for each in actions if each.method.original_function_name in offered]

    @admin.action(description="Run now", permissions=["run"])
    def run_now(self, request: HttpRequest, states: QuerySet[CronState]) -> None:
        self._run(request, states)

    @admin.action(description="Pause: switch the schedule off", permissions=["run"])
    def pause(self, request: HttpRequest, states: QuerySet[CronState]) -> None:
        self._switch(request, states, runs.pause_cron, "paused")

    @admin.action(description="Resume: switch the schedule on", permissions=["run"])
    def resume(self, request: HttpRequest, states: QuerySet[CronState]) -> None:
        self._switch(request, states, runs.resume_cron, "resumed")

    @admin.action(description="Delete the cursor (the next run starts from the beginning)", permissions=["run"])
    def forget_cursors(self, request: HttpRequest, states: QuerySet[CronState]) -> None:
        forgotten = []
        for state in states:
            try:
                runs.forget_cursor(state.name)
            except RunUnderWay as error:
                messages.error(request, str(error))
            else:
                forgotten.append(state.name)
                self.log_change(request, state, "Deleted the cursor.")
        messages.success(request, f"Deleted {counted(len(forgotten), 'cursor')}{_listed(forgotten)}.")

    @action(
        description="Run now",
        url_path="run",
        permissions=["run"],
        icon="play_arrow",
        dialog=confirm_dialog(
            "Run this cron now?", "It runs in addition to its schedule. It can spend calls.", "Run now"
        ),
    )
    def run_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        self._run(request, CronState.objects.filter(pk=object_id))
        return _back_to(request, object_id)

    @action(
        description="Pause",
        url_path="pause",
        permissions=["run"],
        icon="pause",
        dialog=confirm_dialog("Pause this cron?", "A run that has begun continues.", "Pause", ReasonForm),
    )
    def pause_one(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        message = f"Paused. Reason: {form.cleaned_data['reason']}"
        self._switch(request, CronState.objects.filter(pk=object_id), runs.pause_cron, "paused", message)
        return _back_to(request, object_id)

    @action(
        description="Resume",
        url_path="resume",
        permissions=["run"],
        icon="resume",
        dialog=confirm_dialog("Resume this cron?", "It runs when it is next due.", "Resume"),
    )
    def resume_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        self._switch(request, CronState.objects.filter(pk=object_id), runs.resume_cron, "resumed")
        return _back_to(request, object_id)

    def _run(self, request: HttpRequest, states: Iterable[CronState]) -> None:
        names = []
        now = get_status().now
        for state in states:
            if state.by_hand_at and now - state.by_hand_at < BY_HAND:
                messages.error(request, f"{state.name} was started by hand less than a minute ago.")
                continue
            if not publish(TASK, state.name, scheduled=False):
                messages.error(request, "Redis does not answer, so no worker was told. Try again later.")
                return
            names.append(state.name)
            self.log_change(request, state, "Run now.")
        messages.success(request, f"Sent {counted(len(names), 'cron')} to the workers{_listed(names)}.")

    def _switch(
        self,
        request: HttpRequest,
        states: Iterable[CronState],
        switch: Callable[[str], int],
        done: str,
        message: str = "",
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
                self.log_change(request, state, message or f"{done.capitalize()}.")
        messages.success(request, f"{counted(len(switched), 'cron')} {done}{_listed(switched)}.")


def _listed(names: list[str]) -> str:
    return f": {', '.join(names)}" if names else ""


def _set_standings(states: Iterable[Any]) -> None:
    standings = cron_standings(states)
    for state in states:
        state.standing = standings[state.name]


def _schedule_link(task: Any) -> SafeString:
    address = reverse("admin:django_celery_beat_periodictask_change", args=[task.pk])
    return link(address, f"{task.scheduler}{'' if task.enabled else ' (off)'}")


def _back_to(request: HttpRequest, name: str) -> HttpResponse:
    return close_dialog(request, reverse("admin:harvest_cronstate_change", args=[name]))
