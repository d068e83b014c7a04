"""Staff paste or upload ISBNs, see what they cost, and run them as a job."""

import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from alexandria.common.text import counted
from enrichment.exceptions import JobError
from enrichment.isbn.files import FileUnreadable, FileValues, read_file, read_text
from enrichment.isbn.reading import read
from enrichment.jobs.lists import keep_isbns, read_isbns, run_isbns
from enrichment.models import IsbnList, Job
from enrichment.models.jobs import STAFF
from enrichment.selectors.plans import plan_isbns
from enrichment.serializers.books import MAX_JOB_ISBNS
from enrichment.services.refresh_plans import plan_refresh
from quota.exceptions import QuotaError
from quota.models import Consumer
from quota.selectors.allowances import get_allowance
from quota.selectors.forecast import forecast

MAX_FILE_SIZE = 10 * 1024 * 1024
MAX_INVALID_SHOWN = 50


class FileForm(forms.Form):
    """A form that has the field `file`."""

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file is not None and file.size > MAX_FILE_SIZE:
            raise forms.ValidationError(f"The file is larger than {filesizeformat(MAX_FILE_SIZE)}.")
        return file


class IsbnsForm(FileForm):
    isbns = forms.CharField(
        label="ISBNs",
        required=False,
        widget=UnfoldAdminTextareaWidget({"rows": 10}),
        help_text="In any form, on separate lines or separated by commas or tabs. Rows of a spreadsheet work, too.",
    )
    is_spreadsheet = forms.BooleanField(
        label="Copied from a spreadsheet",
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Nine digits are then an ISBN-10 that has lost the zero in front. In a file they always are.",
    )
    file = forms.FileField(
        label="Or a file",
        required=False,
        widget=UnfoldAdminFileFieldWidget(),
        help_text=f"Text, CSV or Excel (xlsx), at most {filesizeformat(MAX_FILE_SIZE)} and {MAX_JOB_ISBNS:,} ISBNs. "
        "The ISBNs can be in any column. Exports of Goodreads, StoryGraph, LibraryThing, Calibre, BookWyrm, Libib and "
        "Alexandria are recognised.",
    )
    purpose = forms.CharField(
        label="Purpose",
        required=False,
        max_length=100,
        widget=UnfoldAdminTextInputWidget(),
        help_text="A note that is stored with the job, for example “shelf 7”.",
    )
    refresh = forms.BooleanField(
        label="Request all of them",
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Also requests books that are stored and fresh, and ISBNs that ISBNdb recently did not know.",
    )

    def clean(self) -> dict[str, Any]:
        """Adds `values`, the pasted ones and then those of the file, with the `notes` of the file."""
        given: dict[str, Any] = super().clean() or {}
        if not self.errors:
            pasted = self._values("isbns", lambda: read_text(given["isbns"]))
            file = self._values("file", lambda: read_file(given["file"].read())) if given["file"] else FileValues()
            given["values"], given["notes"] = pasted.values + file.values, [*pasted.notes, *file.notes]
            given["is_spreadsheet"] |= bool(given["file"])
            if not given["values"]:
                what = "There is no ISBN in the file." if given["file"] else "Paste ISBNs, or choose a file with ISBNs."
                raise forms.ValidationError(" ".join([what, *given["notes"]]))
            found = read(given["values"], is_spreadsheet=given["is_spreadsheet"])
            if (count := found.requested - found.duplicates) > MAX_JOB_ISBNS:
                raise forms.ValidationError(f"These are {count:,} ISBNs. A job can have at most {MAX_JOB_ISBNS:,}.")
        return given

    def _values(self, field: str, read_values: Callable[[], FileValues]) -> FileValues:
        try:
            return read_values()
        except FileUnreadable as error:
            raise forms.ValidationError({field: str(error)}) from error


class RunForm(forms.Form):
    on_exhausted = forms.ChoiceField(
        label="If the calls of today are not enough",
        choices=[("fail", "stop (you can retry the rest later)"), ("wait", "wait for the next day")],
        initial="fail",
        widget=UnfoldAdminRadioSelectWidget(),
    )


def check_isbns(request: HttpRequest) -> HttpResponse:
    """Stores the ISBNs and redirects to the page that shows what they cost."""
    permit(request, "enrichment.view_job")
    form = IsbnsForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        kept = keep_isbns(
            form.cleaned_data["values"],
            made_by=cast(User, request.user),
            refresh=form.cleaned_data["refresh"],
            purpose=form.cleaned_data["purpose"],
            is_spreadsheet=form.cleaned_data["is_spreadsheet"],
            notes=form.cleaned_data["notes"],
        )
        return HttpResponseRedirect(reverse("admin:isbn_list", args=[kept.pk]))
    context = admin.site.each_context(request) | {"title": "Check ISBNs", "form": form}
    return TemplateResponse(request, "enrichment/admin/check_isbns.html", context)


def isbn_list(request: HttpRequest, list_id: uuid.UUID) -> HttpResponse:
    """Shows what is in a list and what it costs. A POST runs it as a job. A list that has a job redirects to it."""
    permit(request, "enrichment.view_job")
    kept = get_object_or_404(IsbnList, pk=list_id)
    job = Job.objects.filter(consumer__slug=STAFF, idempotency_key=kept.job_key).first()
    if job is not None:
        return HttpResponseRedirect(job_page(job))
    form = RunForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        on_exhausted = Job.OnExhausted(form.cleaned_data["on_exhausted"])
        return started(request, lambda: run_and_log(request, kept, on_exhausted), refresh=kept.refresh)
    plan = plan_isbns(read_isbns(kept), refresh=kept.refresh)
    refresh = plan_refresh(plan.given.valid) if kept.refresh else None
    invalid = plan.given.invalid[:MAX_INVALID_SHOWN]
    context = admin.site.each_context(request) | {
        "title": "Check ISBNs: result and cost",
        "list": kept,
        "plan": plan,
        "invalid": invalid,
        "invalid_left_out": len(plan.given.invalid) - len(invalid),
        "reasons": Counter(str(entry.reason) for entry in plan.given.invalid).most_common(),
        "form": form,
        "may_run": may_start(request, refresh=kept.refresh),
        "refresh": refresh,
        **cost_context((refresh or plan).calls, requests=(refresh or plan).requests),
    }
    return TemplateResponse(request, "enrichment/admin/isbn_list.html", context)


def cost_context(calls: int, *, requests: int, payer: str = STAFF) -> dict[str, Any]:
    """The context of `cost.html`: the cost, and what is left today for the consumer that pays."""
    cost = {"calls": calls, "requests": requests, "payer": payer}
    consumer = Consumer.objects.filter(slug=payer).first()
    if consumer is None:
        return cost | {"allowance": None}
    return cost | {"allowance": get_allowance(consumer), "forecast": forecast(calls, consumer=payer, requests=requests)}


def may_start(request: HttpRequest, *, refresh: bool) -> bool:
    """Whether the user can spend calls on a list. To request fresh books again needs its own permission."""
    user = request.user
    return user.has_perm("enrichment.add_job") and (not refresh or user.has_perm("enrichment.refresh_edition"))


def started(request: HttpRequest, start: Callable[[], Job], *, refresh: bool) -> HttpResponse:
    """Starts a job and redirects to its page or, if that is refused, back to the same page, with the reason.

    Raises PermissionDenied when the user may not start it (see `may_start`).
    """
    if not may_start(request, refresh=refresh):
        raise PermissionDenied
    try:
        job = start()
    except (QuotaError, JobError) as error:
        messages.error(request, f"The job was not started. {error}")
        return HttpResponseRedirect(request.get_full_path())
    return HttpResponseRedirect(job_page(job))


def run_and_log(request: HttpRequest, kept: IsbnList, on_exhausted: Job.OnExhausted = Job.OnExhausted.FAIL) -> Job:
    """Makes the list a job and logs who did it. Raises what `run_isbns` raises."""
    job = run_isbns(kept, on_exhausted=on_exhausted)
    all_again = ", all requested again" if kept.refresh else ""
    log_start(request, job, f"Run from the admin: {counted(job.total, 'ISBN')}{all_again}.")
    return job


def log_start(request: HttpRequest, job: Job, done: str) -> None:
    """Records who has started the job. `done`: a sentence."""
    LogEntry.objects.log_actions(cast(User, request.user).pk, [job], ADDITION, change_message=done, single_object=True)


def job_page(job: Job) -> str:
    return reverse("admin:enrichment_job_change", args=[job.pk])


def permit(request: HttpRequest, permission: str) -> None:
    """Raises PermissionDenied when the user does not have the permission."""
    if not request.user.has_perm(permission):
        raise PermissionDenied
