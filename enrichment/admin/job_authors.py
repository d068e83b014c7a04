"""The authors of a job, each with its figures."""

import uuid
from collections.abc import Iterator

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse

from alexandria.common.exports import Row, as_csv
from enrichment.admin.progress import AUTHOR_COLOURS, CSV_BATCH, PAGE_SIZE, job_of
from enrichment.models import Job, JobAuthor
from enrichment.selectors import author_figures

COLUMNS = ["pages", "found", "new", "changed", "unchanged", "fresh", "failed", "calls"]


def authors(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """The authors, page by page. `state` filters; `after` is the last position of the previous page."""
    job = job_of(request, job_id)
    after = request.GET.get("after", "")
    above = int(after) if after.isdecimal() and len(after) < 10 else 0
    page = list(_chosen(job, request).filter(position__gt=above)[: PAGE_SIZE + 1])
    figures = author_figures(job)
    counts = [(state, figures[f"authors_{state.value}"]) for state in JobAuthor.State]
    context = admin.site.each_context(request) | {
        "title": "Authors of the job",
        "job": job,
        "rows": page[:PAGE_SIZE],
        "colours": AUTHOR_COLOURS,
        "state": request.GET.get("state", ""),
        "states": [each for each in counts if each[1]],
        "total": figures["authors"],
        "after": page[PAGE_SIZE - 1].position if len(page) > PAGE_SIZE else None,
    }
    return TemplateResponse(request, "enrichment/admin/job_authors.html", context)


def authors_csv(request: HttpRequest, job_id: uuid.UUID) -> StreamingHttpResponse:
    """The same list as a CSV file, streamed. `state` filters it."""
    job = job_of(request, job_id)
    answer = StreamingHttpResponse(_lines(_chosen(job, request)), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="job-{job.pk}.csv"'
    return answer


def _chosen(job: Job, request: HttpRequest) -> QuerySet[JobAuthor]:
    state = request.GET.get("state", "")
    return (
        job.authors.filter(Q(state=state) if state in JobAuthor.State else Q()).defer("progress").order_by("position")
    )


def _lines(chosen: QuerySet[JobAuthor]) -> Iterator[str]:
    yield "\ufeff"  # a byte order mark: without it Excel does not read the file as UTF-8
    names = ["already_fresh" if name == "fresh" else name for name in COLUMNS]
    yield from as_csv(["position", "name", "state", *names, "reason"], _rows(chosen))


def _rows(chosen: QuerySet[JobAuthor]) -> Iterator[Row]:
    after = 0
    while page := list(chosen.filter(position__gt=after)[:CSV_BATCH]):
        for author in page:
            figures = [getattr(author, name) for name in COLUMNS]
            yield author.position, author.name, author.state, *figures, author.reason
        after = page[-1].position
