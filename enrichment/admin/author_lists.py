"""Staff paste or upload a list of authors, see what it costs, and run it as a job."""

import uuid
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanSwitchWidget,
)

from alexandria.common.text import counted
from enrichment.admin.lists import (
    MAX_FILE_SIZE,
    FileForm,
    RunForm,
    cost_context,
    job_page,
    log_start,
    may_start,
    permit,
    started,
)
from enrichment.authors.names import NamesUnreadable, read_names
from enrichment.jobs.lists import AuthorPlan, keep_authors, plan_authors, run_authors
from enrichment.models import AuthorList, Job
from enrichment.models.jobs import BULK_AUTHOR, MAX_LABEL_LENGTH
from enrichment.selectors.jobs import MAX_PAGES
from enrichment.serializers.authors import MAX_AUTHORS

MAX_REJECTED_SHOWN = 50


class AuthorsForm(FileForm):
    authors = forms.CharField(
        label="Authors",
        required=False,
        strip=False,
        widget=UnfoldAdminTextareaWidget({"rows": 10}),
        help_text="One name on each line: “Agatha Christie” or “Christie, Agatha”.",
    )
    file = forms.FileField(
        label="Or a file",
        required=False,
        widget=UnfoldAdminFileFieldWidget(),
        help_text=f"Text or CSV, at most {filesizeformat(MAX_FILE_SIZE)} and {MAX_AUTHORS:,} authors. The exports of "
        "LibraryThing, Goodreads and StoryGraph work as they are.",
    )
    max_pages = forms.IntegerField(
        label="Pages of each author, at most",
        min_value=1,
        max_value=MAX_PAGES,
        initial=MAX_PAGES,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="A page has 1,000 books and costs one call.",
    )
    refresh = forms.BooleanField(
        label="Update all books",
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Also updates books that are fresh, and requests authors that ISBNdb recently did not know.",
    )

    def clean(self) -> dict[str, Any]:
        """Adds `content` and `label`: the file or, without one, the pasted text."""
        given: dict[str, Any] = super().clean() or {}
        if self.errors:
            return given
        file, pasted = given["file"], given["authors"]
        if bool(file) == bool(pasted.strip()):
            raise forms.ValidationError("Paste names, or choose a file with names. Not both.")
        given["content"] = file.read() if file else pasted.encode()
        given["label"] = file.name[:MAX_LABEL_LENGTH] if file else "pasted in the admin"
        try:
            read_names(given["content"], most=MAX_AUTHORS)
        except NamesUnreadable as error:
            raise forms.ValidationError(str(error)) from error
        return given


class StartForm(RunForm):
    """`again` is there only for a list that a job has ended for."""

    again = forms.BooleanField(
        label="Request the whole list again",
        widget=UnfoldBooleanSwitchWidget(),
        help_text="All calls are spent again.",
        error_messages={"required": "Switch this on to start the list again."},
    )

    def __init__(self, *args: Any, plan: AuthorPlan, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if plan.earlier is None:
            del self.fields["again"]


def bulk_harvest(request: HttpRequest) -> HttpResponse:
    """Stores the names and redirects to the page that shows what they cost."""
    permit(request, "enrichment.view_job")
    form = AuthorsForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        kept = keep_authors(
            form.cleaned_data["content"],
            made_by=cast(User, request.user),
            label=form.cleaned_data["label"],
            max_pages=form.cleaned_data["max_pages"],
            skip_existing=not form.cleaned_data["refresh"],
        )
        return HttpResponseRedirect(reverse("admin:author_list", args=[kept.pk]))
    context = admin.site.each_context(request) | {"title": "New bulk harvest", "form": form}
    return TemplateResponse(request, "enrichment/admin/bulk_harvest.html", context)


def author_list(request: HttpRequest, list_id: uuid.UUID) -> HttpResponse:
    """Shows what is in a list and what it costs. A POST runs it as a job. A list that has a job redirects to it."""
    permit(request, "enrichment.view_job")
    kept = get_object_or_404(AuthorList, pk=list_id)
    job = Job.objects.filter(consumer__slug=BULK_AUTHOR, idempotency_key=kept.job_key).first()
    if job is not None:
        return HttpResponseRedirect(job_page(job))
    plan = plan_authors(kept)
    form = StartForm(request.POST or None, plan=plan)
    if request.method == "POST" and form.is_valid():
        return started(request, lambda: _start(request, kept, plan, form), refresh=not kept.skip_existing)
    context = admin.site.each_context(request) | {
        "title": "New bulk harvest: authors and cost",
        "list": kept,
        "plan": plan,
        "rejected": plan.names.rejected[:MAX_REJECTED_SHOWN],
        "rejected_left_out": len(plan.names.rejected[MAX_REJECTED_SHOWN:]),
        "form": form,
        "may_run": may_start(request, refresh=not kept.skip_existing),
        "under_way": plan.earlier if plan.earlier and plan.earlier.ended_at is None else None,
        **cost_context(plan.calls_at_least, requests=plan.calls_at_least, payer=BULK_AUTHOR),
    }
    return TemplateResponse(request, "enrichment/admin/author_list.html", context)


def _start(request: HttpRequest, kept: AuthorList, plan: AuthorPlan, form: StartForm) -> Job:
    on_exhausted = Job.OnExhausted(form.cleaned_data["on_exhausted"])
    job = run_authors(kept, plan, on_exhausted=on_exhausted, again=form.cleaned_data.get("again", False))
    log_start(request, job, f"Bulk harvest started from the admin: {counted(job.total, 'author')}.")
    return job
