"""Long work under way and done: to be looked at, cancelled and retried."""

import uuid
from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from enrichment.exceptions import JobError
from enrichment.models import Job
from enrichment.services.jobs import cancel_job, retry_job
from quota.admin.base import ReadOnlyAdmin
from quota.selectors import calls_spent


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "consumer",
        "kind",
        "state",
        "done",
        "total",
        "stopped_reason",
        "resume_at",
        "ended_at",
    )
    list_filter = ("state", "kind", "consumer", "on_exhausted")
    list_select_related = ("consumer",)
    date_hierarchy = "created_at"
    search_fields = ("id__exact", "idempotency_key__exact")
    actions = ("cancel", "retry")
    fieldsets = (
        (None, {"fields": ("id", "consumer", "kind", "wanted", "on_exhausted", "idempotency_key")}),
        ("State", {"fields": ("state", "created_at", "started_at", "ended_at", "resume_at", "cancel_requested")}),
        ("Work", {"fields": ("done", "total", "api_calls", "stopped_reason", "error", "result")}),
        ("Runner", {"fields": ("runner", "lease_until", "attempts", "failures")}),
    )

    @admin.display(description="calls spent")
    def api_calls(self, job: Job) -> int:
        return calls_spent(source=job.source)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Cancelling and retrying is for those who might change a job, if it could be changed here."""
        return bool(request.user.has_perm("enrichment.change_job"))

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._act(request, queryset, cancel_job, "cancelled")

    @admin.action(description="Retry what failed", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._act(request, queryset, retry_job, "queued again")

    def _act(self, request: HttpRequest, chosen: QuerySet[Job], act: Callable[[uuid.UUID], Job], done: str) -> None:
        count, refused = 0, 0
        for job in chosen:
            try:
                act(job.pk)
            except JobError:
                refused += 1
            else:
                count += 1
                self.log_change(request, job, f"{done.capitalize()}.")
        messages.success(request, f"{count} {'job' if count == 1 else 'jobs'} {done}.")
        if refused:
            messages.warning(request, f"{refused} left as {'it was' if refused == 1 else 'they were'}.")
