"""The pages of django-celery-beat, in the style of the other pages."""

import json

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat import admin as beat
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from alexandria.common.admin import ModelAdmin
from alexandria.common.publishing import publish
from harvest.periodic import refusal

for model in (ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule):
    admin.site.unregister(model)


class TaskSelect(beat.TaskSelectWidget, UnfoldAdminSelectWidget):
    """A list of all tasks."""


class PeriodicTaskForm(beat.PeriodicTaskForm):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelect()

    def _post_clean(self) -> None:
        super()._post_clean()
        if not self.errors and (why := refusal(self.instance)):
            self.add_error(None, why)


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(beat.PeriodicTaskAdmin, ModelAdmin):
    """Unlike django-celery-beat's own actions, ours check a permission and write to the history."""

    form = PeriodicTaskForm
    change_form_template = None  # the library's has an inline script, which explains the crontab
    readonly_fields = ("last_run_at",)
    fieldsets = tuple(
        (title, options | {"fields": tuple(name for name in options["fields"] if name != "crontab_translation")})
        for title, options in beat.PeriodicTaskAdmin.fieldsets
    )
    list_display = ("name", "enabled", "scheduler", "last_run_at")
    actions = ("enable_tasks", "disable_tasks", "run_tasks")

    @admin.action(description="Switch on", permissions=["change"])
    def enable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        super().enable_tasks(request, queryset)
        self._log(request, queryset, "Switched on.")

    @admin.action(description="Switch off", permissions=["change"])
    def disable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        super().disable_tasks(request, queryset)
        self._log(request, queryset, "Switched off.")

    @admin.action(description="Run now", permissions=["change"])
    def run_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        for task in queryset:
            if why := refusal(task):
                messages.error(request, f"{task.name}: {why}")
                return
        for number, task in enumerate(queryset):
            if not publish(task.task, *json.loads(task.args), **json.loads(task.kwargs)):
                messages.error(request, f"Redis does not answer: {number} of {len(queryset)} tasks were started.")
                return
            self.log_change(request, task, "Started by hand.")
        messages.success(request, f"Started: {len(queryset)}.")

    def _log(self, request: HttpRequest, tasks: QuerySet[PeriodicTask], message: str) -> None:
        for task in tasks:
            self.log_change(request, task, message)


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(beat.CrontabScheduleAdmin, ModelAdmin):
    pass


@admin.register(IntervalSchedule, SolarSchedule, ClockedSchedule)
class ScheduleAdmin(ModelAdmin):
    pass
