"""The authors of a job, each with its figures."""

import uuid
from collections.abc import Iterator

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse

from alexandria.common.exports import Row, in_batches
from enrichment.admin.item_pages import csv_of, in_state, page_of
from enrichment.admin.progress import AUTHOR_COLOURS, job_of
from enrichment.models import JobAuthor
from enrichment.selectors.jobs import author_figures

FIGURES = ["pages", "found", "new", "changed", "unchanged", "fresh", "failed", "calls"]
COLUMNS = ["position", "name", "state", *["already_fresh" if name == "fresh" else name for name in FIGURES], "reason"]


def authors(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """The authors, page by page. `state` filters; `after` is the last position of the previous page."""
    job = job_of(request, job_id)
    page, after = page_of(in_state(job.authors.defer("progress"), request), request)
    figures = author_figures(job)
    counts = [(state, figures[f"authors_{state.value}"]) for state in JobAuthor.State]
    context = admin.site.each_context(request) | {
        "title": "Authors of the job",
        "job": job,
        "rows": page,
        "colours": AUTHOR_COLOURS,
        "state": request.GET.get("state", ""),
        "states": [each for each in counts if each[1]],
        "total": figures["authors"],
        "after": after,
    }
    return TemplateResponse(request, "enrichment/admin/job_authors.html", context)


def authors_csv(request: HttpRequest, job_id: uuid.UUID) -> StreamingHttpResponse:
    """The same list as a CSV file, streamed. `state` filters it."""
    job = job_of(request, job_id)
    return csv_of(job, COLUMNS, _rows(in_state(job.authors.defer("progress"), request)))


def _rows(authors: QuerySet[JobAuthor]) -> Iterator[Row]:
    for author in in_batches(authors, keys=["position"]):
        figures = [getattr(author, name) for name in FIGURES]
        yield author.position, author.name, author.state, *figures, author.reason
