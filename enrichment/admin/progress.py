"""The progress of a job, refreshed every two seconds. Its items are in job_items.py."""

import uuid
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render

from alexandria.common.turns import take_turn
from alexandria.common.widgets import percentage, share
from enrichment.admin.exports import file_of
from enrichment.admin.lists import permit
from enrichment.exports.formats import FORMATS
from enrichment.jobs.registry import handler_of
from enrichment.models import Job, JobAuthor, JobItem
from enrichment.selectors.jobs import author_figures, books_of, failure_reasons, item_counts, job_calls_left, job_eta
from quota.exceptions import QuotaError
from quota.selectors.work import spent_by

STATE_COLOURS = {
    "queued": "info",
    "running": "primary",
    "waiting": "warning",
    "paused": "warning",
    "succeeded": "success",
    "failed": "danger",
    "cancelled": "",
}
ITEM_COLOURS = {
    "pending": "",
    "enriched": "success",
    "already_fresh": "success",
    "not_found": "warning",
    "failed": "danger",
    "duplicate": "info",
    "invalid": "danger",
    "done": "success",
    "unknown": "warning",
    "cut": "info",
}
BOOKS = {
    "found": "Books found",
    "new": "New",
    "changed": "Changed",
    "unchanged": "Unchanged",
    "already_fresh": "Already fresh",
    "failed": "Failed",
}
"""The figures of the books of a job of authors. The first is the sum of the others."""


def progress_context(job: Job) -> dict[str, Any]:
    """The context of `job_progress.html`."""
    books = author_figures(job) if job.kind == Job.Kind.AUTHORS else {}
    try:
        eta, spent = job_eta(job), spent_by([job.source])[job.source]
        left = job_calls_left(job) if job.ended_at is None else None
    except QuotaError:  # the next refresh can succeed
        eta, spent, left = None, None, None
    return {
        "job": job,
        "colour": STATE_COLOURS[job.state],
        "unit": handler_of(job).UNIT,
        "percentage": percentage(job.done, job.total),
        "bar": share(job.done, job.total) if job.total else share(1, 1),
        "eta": eta,
        "spent": spent,
        "calls_left": left,
        "states": [(state, count, ITEM_COLOURS[state.value]) for state, count in states_of(job)],
        "figures": [(words, books[name]) for name, words in BOOKS.items()] if books else [],
        "formats": FORMATS if job.kind == Job.Kind.BATCH_DIRECT else {},
        "items_page": items_page_of(job),
        "reasons": failure_reasons(job),
        "notes": job.wanted.get("notes", []),
        "result": [(name.replace("_", " "), value) for name, value in (job.result or {}).items() if name != "notes"],
    }


def states_of(job: Job) -> list[tuple[JobItem.State | JobAuthor.State, int]]:
    """The states that items of the job have, in order, and how many items are in each."""
    if job.kind == Job.Kind.AUTHORS:
        figures = author_figures(job)
        return [(state, count) for state in JobAuthor.State if (count := figures[f"authors_{state.value}"])]
    counts = item_counts(job) if job.kind == Job.Kind.BATCH_DIRECT else {}
    return [(state, counts[state.value]) for state in JobItem.State if state.value in counts]


def items_page_of(job: Job) -> str:
    """The name of the page that lists the items of the job. With `_csv` behind it, of the file."""
    return "admin:enrichment_job_authors" if job.kind == Job.Kind.AUTHORS else "admin:enrichment_job_items"


def progress(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """The part of the page that changes. When the job has ended, the browser reloads the whole page once."""
    job = job_of(request, job_id)
    answer = render(request, "enrichment/admin/job_progress.html", progress_context(job))
    if job.ended_at is not None:
        answer["HX-Refresh"] = "true"
    return answer


def books_file(request: HttpRequest, job_id: uuid.UUID, form: str) -> StreamingHttpResponse:
    """The books that the job has brought, and those that were fresh, as a file. `form`: one of FORMATS."""
    permit(request, "enrichment.view_edition")
    job = job_of(request, job_id)
    if form not in FORMATS:
        raise Http404
    take_turn()
    chosen = FORMATS[form]
    answer = StreamingHttpResponse(file_of(books_of(job), form), content_type=chosen.content_type)
    answer["Content-Disposition"] = f'attachment; filename="job-{job.pk}-books.{chosen.suffix}"'
    return answer


def job_of(request: HttpRequest, job_id: uuid.UUID) -> Job:
    permit(request, "enrichment.view_job")
    return get_object_or_404(Job.objects.select_related("consumer"), pk=job_id)
