"""Jobs, running and ended. Operators can cancel and retry them."""

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from alexandria.common import widgets
from alexandria.common.admin import ReadOnlyAdmin
from alexandria.common.reasons import close_dialog, confirm_dialog
from alexandria.common.text import counted
from enrichment.admin import lists, progress
from enrichment.exceptions import JobError
from enrichment.jobs.lifecycle import cancel_job, retry_job
from enrichment.models import Job


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "consumer",
        "kind",
        "state_label",
        "progress_bar",
        "calls",
        "why",
        "resume_at",
        "ended_at",
    )
    list_filter = ("state", "kind", "consumer", "on_exhausted")
    list_select_related = ("consumer",)
    date_hierarchy = "created_at"
    search_fields = ("id__exact", "idempotency_key__exact")
    search_help_text = "Search by the id of a job, or by its idempotency key."
    actions = ("cancel", "retry")
    actions_list = ("check_isbns",)
    actions_detail = ("cancel_one", "retry_one")
    change_form_outer_before_template = "enrichment/admin/job_progress.html"
    fieldsets = (
        (None, {"fields": ("id", "consumer", "kind", "wanted", "on_exhausted", "idempotency_key")}),
        ("Times", {"fields": ("created_at", "started_at", "ended_at", "resume_at", "cancel_requested")}),
        ("Runner", {"fields": ("runner", "lease_until", "attempts", "failures")}),
    )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("check-isbns/", view(lists.check_isbns), name="check_isbns"),
            path("check-isbns/<uuid:list_id>/", view(lists.isbn_list), name="isbn_list"),
            path("<uuid:job_id>/progress/", view(progress.progress), name="enrichment_job_progress"),
            path("<uuid:job_id>/isbns/", view(progress.items), name="enrichment_job_items"),
            path("<uuid:job_id>/isbns.csv", view(progress.items_csv), name="enrichment_job_items_csv"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Without the long columns, which the list does not show."""
        queryset: QuerySet[Job] = super().get_queryset(request)
        return queryset.defer("progress", "wanted")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        job = self.get_object(request, object_id)
        shown = progress.progress_context(job) if job else {}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    @display(description="state", ordering="state", label=progress.STATE_COLOURS)
    def state_label(self, job: Job) -> tuple[str, str]:
        return job.state, job.get_state_display()

    @admin.display(description="done")
    def progress_bar(self, job: Job) -> SafeString:
        return widgets.progress(job.done, job.total, "ISBNs" if job.kind == Job.Kind.BATCH_DIRECT else "pages")

    @admin.display(description="calls spent")
    def calls(self, job: Job) -> int | None:
        """Only for ended jobs. For each of the others the list would need another query."""
        return (job.result or {}).get("api_calls")

    @admin.display(description="why", ordering="stopped_reason")
    def why(self, job: Job) -> str:
        return job.stopped_reason.replace("_", " ")

    @action(description="Check ISBNs", url_path="new", icon="playlist_add_check")
    def check_isbns(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:check_isbns"))

    def has_operate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Cancel and retry need the permission to change a job."""
        return bool(request.user.has_perm("enrichment.change_job"))

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._act(request, queryset, cancel_job, "cancelled")

    @admin.action(description="Retry what failed", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._act(request, queryset, retry_job, "queued again")

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[UnfoldAction]:
        """Cancel for a running job, retry for an ended job. A click on an outdated page shows an error."""
        job = self.get_object(request, object_id)
        hidden = "retry_one" if job is None or job.ended_at is None else "cancel_one"
        offered = super().get_actions_detail(request, object_id)
        return [each for each in offered if each.method.original_function_name != hidden]

    @action(
        description="Cancel",
        url_path="cancel",
        permissions=["operate"],
        icon="cancel",
        dialog=confirm_dialog(
            "Cancel this job?", "Stored books stay. A request that is under way still completes.", "Cancel the job"
        ),
    )
    def cancel_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        return self._act_on_one(request, object_id, cancel_job, "Cancelled.")

    @action(
        description="Retry what failed",
        url_path="retry",
        permissions=["operate"],
        icon="replay",
        dialog=confirm_dialog("Retry what failed?", "Only what failed is requested again. This costs calls.", "Retry"),
    )
    def retry_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        return self._act_on_one(request, object_id, retry_job, "Queued again.")

    def _act_on_one(
        self, request: HttpRequest, object_id: str, act: Callable[[uuid.UUID], Job], done: str
    ) -> HttpResponse:
        job = self.get_object(request, object_id)
        if job is None:
            raise Http404
        try:
            act(job.pk)
        except JobError as error:
            messages.warning(request, str(error))
        else:
            self.log_change(request, job, done)
            messages.success(request, done)
        return close_dialog(request, reverse("admin:enrichment_job_change", args=[object_id]))

    def _act(self, request: HttpRequest, jobs: QuerySet[Job], act: Callable[[uuid.UUID], Job], done: str) -> None:
        count, refused = 0, 0
        for job in jobs:
            try:
                act(job.pk)
            except JobError:
                refused += 1
            else:
                count += 1
                self.log_change(request, job, f"{done.capitalize()}.")
        messages.success(request, f"{counted(count, 'job')} {done}.")
        if refused:
            messages.warning(request, f"{counted(refused, 'job')} not changed.")
