"""The progress of a job, refreshed every two seconds, and the state of each of its ISBNs."""

import uuid
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.template.response import TemplateResponse

from alexandria.common.widgets import percentage, share
from enrichment.models import Edition, Job, JobItem
from enrichment.selectors import item_counts, job_calls_left, job_eta, job_failures
from quota.admin.exports import Row, as_csv
from quota.exceptions import QuotaError
from quota.selectors.status import calls_spent

STATE_COLOURS = {
    "queued": "info",
    "running": "primary",
    "waiting": "warning",
    "succeeded": "success",
    "failed": "danger",
    "cancelled": "",
}
ITEM_COLOURS = {
    "enriched": "success",
    "fresh": "success",
    "not_found": "warning",
    "failed": "danger",
    "invalid": "danger",
}
PAGE_SIZE = 100
CSV_BATCH = 2000


def progress_context(job: Job) -> dict[str, Any]:
    """The context of `job_progress.html`."""
    is_isbns = job.kind == Job.Kind.BATCH_DIRECT
    counts = item_counts(job) if is_isbns else {}
    states = [
        (state, counts[state.value], ITEM_COLOURS.get(state.value, "")) for state in JobItem.State if state in counts
    ]
    try:
        eta, spent = job_eta(job), calls_spent(source=job.source)
        left = job_calls_left(job) if job.ended_at is None else None
    except QuotaError:  # the next refresh can succeed
        eta, spent, left = None, None, None
    return {
        "job": job,
        "colour": STATE_COLOURS[job.state],
        "unit": "ISBNs" if is_isbns else "pages",
        "percentage": percentage(job.done, job.total),
        "bar": share(job.done, job.total) if job.total else share(1, 1),
        "eta": eta,
        "calls_spent": spent,
        "calls_left": left,
        "states": states,
        "reasons": job_failures(job).by_reason,
        "result": [(name.replace("_", " "), value) for name, value in (job.result or {}).items()],
    }


def progress(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """The part of the page that changes. When the job has ended, the browser reloads the whole page once."""
    job = _job(request, job_id)
    answer = render(request, "enrichment/admin/job_progress.html", progress_context(job))
    if job.ended_at is not None:
        answer["HX-Refresh"] = "true"
    return answer


def items(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """The state of each ISBN, page by page. `state` filters; `after` is the last position of the previous page."""
    job = _job(request, job_id)
    chosen = _chosen(job, request)
    after = request.GET.get("after", "")
    page = list(chosen.filter(position__gt=int(after) if after.isdecimal() and len(after) < 10 else 0)[: PAGE_SIZE + 1])
    counts = item_counts(job)
    context = admin.site.each_context(request) | {
        "title": "ISBNs of the job",
        "job": job,
        "rows": _with_titles(page[:PAGE_SIZE]),
        "colours": ITEM_COLOURS,
        "state": request.GET.get("state", ""),
        "states": [(state, counts[state.value]) for state in JobItem.State if state in counts],
        "total": sum(counts.values()),
        "after": page[PAGE_SIZE - 1].position if len(page) > PAGE_SIZE else None,
    }
    return TemplateResponse(request, "enrichment/admin/job_items.html", context)


def items_csv(request: HttpRequest, job_id: uuid.UUID) -> StreamingHttpResponse:
    """The same list as a CSV file, streamed. `state` filters it."""
    job = _job(request, job_id)
    answer = StreamingHttpResponse(_lines(_chosen(job, request)), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="job-{job.pk}.csv"'
    return answer


def _job(request: HttpRequest, job_id: uuid.UUID) -> Job:
    if not request.user.has_perm("enrichment.view_job"):
        raise PermissionDenied
    return get_object_or_404(Job.objects.select_related("consumer"), pk=job_id)


def _chosen(job: Job, request: HttpRequest) -> QuerySet[JobItem]:
    state = request.GET.get("state", "")
    return job.items.filter(Q(state=state) if state in JobItem.State else Q()).order_by("position")


def _with_titles(page: list[JobItem]) -> list[tuple[JobItem, str]]:
    titles = dict(
        Edition.objects.filter(pk__in=[item.isbn13 for item in page if item.isbn13]).values_list("isbn13", "title")
    )
    return [(item, titles.get(item.isbn13, "")) for item in page]


def _lines(chosen: QuerySet[JobItem]) -> Iterator[str]:
    yield "\ufeff"  # a byte order mark: without it Excel does not read the file as UTF-8
    yield from as_csv(["position", "isbn13", "given", "state", "reason", "title"], _rows(chosen))


def _rows(chosen: QuerySet[JobItem]) -> Iterator[Row]:
    after = 0
    while page := list(chosen.filter(position__gt=after)[:CSV_BATCH]):
        for item, title in _with_titles(page):
            yield item.position, item.isbn13, item.value, item.state, item.reason, title
        after = page[-1].position
