"""All long work, running and ended. Operators can pause, resume, cancel and retry it."""

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet, TextField, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce, NullIf
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from alexandria.common import widgets
from alexandria.common.admin import BoundedList, ReadOnlyAdmin, WithFigures
from alexandria.common.reasons import close_dialog, confirm_dialog
from alexandria.common.text import counted
from enrichment.admin import author_lists, job_items, lists, progress, your_lists
from enrichment.exceptions import JobError
from enrichment.jobs.lifecycle import cancel_job, pause_job, resume_job, retry_job
from enrichment.jobs.registry import handler_of
from enrichment.models import Job
from enrichment.selectors.jobs import job_eta
from quota.exceptions import QuotaError
from quota.selectors.work import spent_by


class KindFilter(admin.SimpleListFilter):
    title = "what"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind.value, kind.label) for kind in Job.Kind]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class JobList(BoundedList):
    """Adds what each job has spent and, for those that run now, when they will end."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        going_on: list[Any] = [job for job in self.result_list if job.ended_at is None]
        for job in self.result_list:
            job.spent, job.eta = None, None
        try:
            spent = spent_by([job.source for job in going_on])
            for job in going_on:
                job.spent = spent[job.source]
                if job.state == Job.State.RUNNING:  # there are never more of these than workers
                    job.eta = job_eta(job)
        except QuotaError:  # the list is useful without these figures
            return


@admin.register(Job)
class JobAdmin(WithFigures, ReadOnlyAdmin):
    list_display = ("created_at", "what", "consumer", "state_label", "progress_bar", "rate", "calls", "ends", "why")
    list_filter = ("state", KindFilter, "consumer", "on_exhausted")
    list_select_related = ("consumer",)
    date_hierarchy = "created_at"
    search_fields = ("id__exact", "idempotency_key__exact", "label")
    search_help_text = "Search by the id of a job, its idempotency key, or where its list comes from."
    actions = ("pause", "resume", "cancel", "retry")
    actions_list = ("check_isbns", "bulk_harvest")
    actions_detail = ("pause_one", "resume_one", "cancel_one", "retry_one")
    change_form_outer_before_template = "enrichment/admin/job_progress.html"
    fieldsets = (
        (None, {"fields": ("id", "consumer", "what", "wanted", "on_exhausted", "notified_host", "idempotency_key")}),
        ("Times", {"fields": ("created_at", "started_at", "ended_at", "resume_at", "stop_requested")}),
        ("Runner", {"fields": ("attended", "host", "pid", "runner", "lease_until", "attempts", "failures")}),
    )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("check-isbns/", view(lists.check_isbns), name="check_isbns"),
            path("check-isbns/<uuid:list_id>/", view(lists.isbn_list), name="isbn_list"),
            path("your-lists/", view(your_lists.your_lists), name="your_lists"),
            path("bulk-harvest/", view(author_lists.bulk_harvest), name="bulk_harvest"),
            path("bulk-harvest/<uuid:list_id>/", view(author_lists.author_list), name="author_list"),
            path("<uuid:job_id>/authors/", view(job_items.authors), name="enrichment_job_authors"),
            path("<uuid:job_id>/authors.csv", view(job_items.authors_csv), name="enrichment_job_authors_csv"),
            path("<uuid:job_id>/progress/", view(progress.progress), name="enrichment_job_progress"),
            path("<uuid:job_id>/isbns/", view(job_items.isbns), name="enrichment_job_items"),
            path("<uuid:job_id>/isbns.csv", view(job_items.isbns_csv), name="enrichment_job_items_csv"),
            path("<uuid:job_id>/books.<str:form>", view(progress.books_file), name="enrichment_job_books"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Without the long columns, which the list does not show, and with `about`: what tells a job from others."""
        queryset: QuerySet[Job] = super().get_queryset(request)
        author, purpose = KT("wanted__author_name"), KT("wanted__source")
        about = Coalesce(
            NullIf("label", Value("")), author, NullIf(purpose, Value("")), Value(""), output_field=TextField()
        )
        return queryset.defer("progress", "wanted").annotate(about=about)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[JobList]:
        return JobList

    def figures(self, row: Job) -> dict[str, Any]:
        return progress.progress_context(row)

    @display(description="state", ordering="state", label=progress.STATE_COLOURS)
    def state_label(self, job: Job) -> tuple[str, str]:
        return job.state, job.get_state_display()

    @admin.display(description="what")
    def what(self, job: Any) -> str:
        return f"{job.kind_label}: {job.about}" if job.about else job.kind_label

    @admin.display(description="done")
    def progress_bar(self, job: Job) -> SafeString:
        return widgets.progress(job.done, job.total, f"{handler_of(job).UNIT}s")

    @admin.display(description="requests a minute")
    def rate(self, job: Any) -> str:
        return f"{job.spent.requests_a_minute:,}" if job.spent and job.state == Job.State.RUNNING else ""

    @admin.display(description="calls spent")
    def calls(self, job: Any) -> int | None:
        return job.spent.calls if job.spent else (job.result or {}).get("api_calls")

    @admin.display(description="ended, or will end", ordering="ended_at")
    def ends(self, job: Any) -> str:
        if job.ended_at:
            return f"{job.ended_at:%Y-%m-%d %H:%M}"
        if job.state == Job.State.WAITING:
            return f"continues {job.resume_at:%Y-%m-%d %H:%M}"
        return f"about {job.eta:%Y-%m-%d %H:%M}" if job.eta else ""

    @admin.display(description="why", ordering="stopped_reason")
    def why(self, job: Job) -> str:
        return job.stopped_reason.replace("_", " ")

    @action(description="Check ISBNs", url_path="new", icon="playlist_add_check")
    def check_isbns(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:check_isbns"))

    @action(description="New bulk harvest", url_path="new-bulk-harvest", icon="agriculture")
    def bulk_harvest(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:bulk_harvest"))

    def has_operate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Pause, resume, cancel and retry need the permission to change a job."""
        return bool(request.user.has_perm("enrichment.change_job"))

    @admin.action(description="Pause", permissions=["operate"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._act(request, queryset, pause_job, "paused")

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._act(request, queryset, resume_job, "resumed")

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._act(request, queryset, cancel_job, "cancelled")

    @admin.action(description="Retry what failed", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._act(request, queryset, retry_job, "queued again")

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[UnfoldAction]:
        """What fits the state of the job. A click on an outdated page shows an error."""
        job = self.get_object(request, object_id)
        if job is None:
            return []
        fitting = _fitting(job)
        offered = super().get_actions_detail(request, object_id)
        return [each for each in offered if each.method.original_function_name in fitting]

    @action(
        description="Pause",
        url_path="pause",
        permissions=["operate"],
        icon="pause",
        dialog=confirm_dialog(
            "Pause this job?",
            "Requests that are under way still complete. The job waits until somebody resumes or cancels it.",
            "Pause the job",
        ),
    )
    def pause_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        return self._act_on_one(request, object_id, pause_job, "Paused.")

    @action(
        description="Resume",
        url_path="resume",
        permissions=["operate"],
        icon="play_arrow",
        dialog=confirm_dialog("Resume this job?", "A worker continues it. This costs calls.", "Resume the job"),
    )
    def resume_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        return self._act_on_one(request, object_id, resume_job, "Resumed.")

    @action(
        description="Cancel",
        url_path="cancel",
        permissions=["operate"],
        icon="cancel",
        dialog=confirm_dialog(
            "Cancel this job?", "Stored books stay. Requests that are under way still complete.", "Cancel the job"
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
        count, refused = 0, list[JobError]()
        for job in jobs:
            try:
                act(job.pk)
            except JobError as error:
                refused.append(error)
            else:
                count += 1
                self.log_change(request, job, f"{done.capitalize()}.")
        messages.success(request, f"{counted(count, 'job')} {done}.")
        if refused:
            messages.warning(request, f"{counted(len(refused), 'job')} not changed. {refused[0]}")


def _fitting(job: Job) -> set[str]:
    """The actions that the state of the job allows."""
    if job.ended_at is not None:
        return {"retry_one"} if job.items_deleted_at is None and handler_of(job).is_left() else set()
    pausing = job.state == Job.State.PAUSED or job.stop_requested == Job.Stop.PAUSE
    return {"resume_one" if pausing else "pause_one", "cancel_one"}
