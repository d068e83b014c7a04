"""The progress of a job, refreshed every two seconds, and the state of each of its ISBNs. See also job_authors."""

import uuid
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.template.response import TemplateResponse

from alexandria.common.exports import BATCH, Row, in_batches
from alexandria.common.turns import take_turn
from alexandria.common.widgets import percentage, share
from enrichment.admin.exports import file_of
from enrichment.admin.item_pages import csv_of, in_state, page_of
from enrichment.admin.lists import permit
from enrichment.exports.formats import FORMATS
from enrichment.jobs.registry import handler_of
from enrichment.models import Edition, Job, JobAuthor, JobItem
from enrichment.selectors.jobs import (
    author_figures,
    books_of,
    failure_reasons,
    item_counts,
    job_calls_left,
    job_eta,
    suggestion_of,
)
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
    "enriched": "success",
    "fresh": "success",
    "not_found": "warning",
    "failed": "danger",
    "duplicate": "info",
    "invalid": "danger",
}
AUTHOR_COLOURS = {"pending": "", "done": "success", "unknown": "warning", "cut": "info", "failed": "danger"}
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
    states, figures = _states(job)
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
        "states": states,
        "figures": figures,
        "formats": FORMATS if job.kind == Job.Kind.BATCH_DIRECT else {},
        "items_page": "admin:enrichment_job_authors" if job.kind == Job.Kind.AUTHORS else "admin:enrichment_job_items",
        "reasons": failure_reasons(job),
        "notes": job.wanted.get("notes", []),
        "result": [(name.replace("_", " "), value) for name, value in (job.result or {}).items() if name != "notes"],
    }


def _states(job: Job) -> tuple[list[tuple[Any, int, str]], list[tuple[str, int]]]:
    """How many items of the job are in which state, with its colour, and the figures of the books of its authors."""
    if job.kind == Job.Kind.AUTHORS:
        figures = author_figures(job)
        counts = {state.value: figures[f"authors_{state.value}"] for state in JobAuthor.State}
        states = [(state, counts[state.value], AUTHOR_COLOURS[state.value]) for state in JobAuthor.State]
        return [each for each in states if each[1]], [(words, figures[name]) for name, words in BOOKS.items()]
    counts = item_counts(job) if job.kind == Job.Kind.BATCH_DIRECT else {}
    return [
        (each, counts[each.value], ITEM_COLOURS.get(each.value, "")) for each in JobItem.State if each in counts
    ], []


def progress(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """The part of the page that changes. When the job has ended, the browser reloads the whole page once."""
    job = job_of(request, job_id)
    answer = render(request, "enrichment/admin/job_progress.html", progress_context(job))
    if job.ended_at is not None:
        answer["HX-Refresh"] = "true"
    return answer


def items(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """The state of each ISBN, page by page. `state` filters; `after` is the last position of the previous page."""
    job = job_of(request, job_id)
    page, after = page_of(in_state(job.items.all(), request), request)
    counts = item_counts(job)
    context = admin.site.each_context(request) | {
        "title": "ISBNs of the job",
        "job": job,
        "rows": [(item, suggestion_of(item), title) for item, title in _with_titles(page)],
        "colours": ITEM_COLOURS,
        "state": request.GET.get("state", ""),
        "states": [(state, counts[state.value]) for state in JobItem.State if state in counts],
        "total": sum(counts.values()),
        "after": after,
    }
    return TemplateResponse(request, "enrichment/admin/job_items.html", context)


def items_csv(request: HttpRequest, job_id: uuid.UUID) -> StreamingHttpResponse:
    """The same list as a CSV file, streamed. `state` filters it."""
    job = job_of(request, job_id)
    columns = ["position", "isbn13", "given", "state", "reason", "suggestion", "title"]
    return csv_of(job, columns, _rows(in_state(job.items.all(), request)))


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


def _with_titles(page: list[JobItem]) -> list[tuple[JobItem, str]]:
    """The items, each with the title of its book if that is stored."""
    titles = dict(
        Edition.objects.filter(pk__in=[item.isbn13 for item in page if item.isbn13]).values_list("isbn13", "title")
    )
    return [(item, titles.get(item.isbn13, "")) for item in page]


def _rows(items: QuerySet[JobItem]) -> Iterator[Row]:
    in_order = in_batches(items, keys=["position"])
    while batch := list(islice(in_order, BATCH)):
        for item, title in _with_titles(batch):
            yield item.position, item.isbn13, item.value, item.state, item.reason, suggestion_of(item) or "", title
