"""The items of a job, its ISBNs or its authors: page by page, and all of them as a CSV file."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse

from alexandria.common.exports import BATCH, Row, as_csv_for_people, in_batches
from alexandria.common.turns import take_turn
from enrichment.admin.progress import ITEM_COLOURS, items_page_of, job_of, states_of
from enrichment.models import Edition, Job, JobAuthor, JobItem
from enrichment.selectors.jobs import suggestion_of

PAGE_SIZE = 100
ISBN_COLUMNS = ("position", "isbn13", "given", "state", "reason", "suggestion", "title")
FIGURES = ("pages", "found", "new", "changed", "unchanged", "already_fresh", "failed", "calls")
AUTHOR_COLUMNS = ("position", "name", "state", *FIGURES, "reason")

Item = TypeVar("Item", JobItem, JobAuthor)


def isbns(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """The state of each ISBN. Parameters: `state` filters; `after` is the last position of the previous page."""
    job = job_of(request, job_id)
    return _page(request, job, job.items.all(), "isbns", lambda page: list(_with_titles(page)))


def authors(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """The authors, each with its figures. The parameters are the same."""
    job = job_of(request, job_id)
    return _page(request, job, job.authors.defer("progress"), "authors", list)


def isbns_csv(request: HttpRequest, job_id: uuid.UUID) -> StreamingHttpResponse:
    """The same list as a CSV file, streamed. `state` filters it."""
    job = job_of(request, job_id)
    return _csv(job, ISBN_COLUMNS, _isbn_rows(_in_state(job.items.all(), request)))


def authors_csv(request: HttpRequest, job_id: uuid.UUID) -> StreamingHttpResponse:
    """The same for authors."""
    job = job_of(request, job_id)
    authors = in_batches(_in_state(job.authors.defer("progress"), request), keys=["position"])
    return _csv(job, AUTHOR_COLUMNS, ([getattr(author, name) for name in AUTHOR_COLUMNS] for author in authors))


def _page(
    request: HttpRequest, job: Job, items: QuerySet[Item], what: str, rows: Callable[[list[Item]], list[Any]]
) -> HttpResponse:
    given = request.GET.get("after", "")
    after = int(given) if given.isdecimal() and len(given) < 10 else 0
    found = list(_in_state(items, request).filter(position__gt=after)[: PAGE_SIZE + 1])
    states = states_of(job)
    context = admin.site.each_context(request) | {
        "title": f"{'ISBNs' if what == 'isbns' else 'Authors'} of the job",
        "job": job,
        "rows": rows(found[:PAGE_SIZE]),
        "colours": ITEM_COLOURS,
        "state": request.GET.get("state", ""),
        "states": states,
        "total": sum(count for _, count in states),
        "after": found[PAGE_SIZE - 1].position if len(found) > PAGE_SIZE else None,
        "items_page": items_page_of(job),
    }
    return TemplateResponse(request, f"enrichment/admin/job_{what}.html", context)


def _in_state(items: QuerySet[Item], request: HttpRequest) -> QuerySet[Item]:
    """The items in a state that a parameter `state` names, in order; without such a parameter, all of them."""
    states = [state for state in request.GET.getlist("state") if state in items.model.State]
    return (items.filter(state__in=states) if states else items).order_by("position")


def _csv(job: Job, columns: Sequence[str], rows: Iterable[Row]) -> StreamingHttpResponse:
    """A CSV file of the job, streamed. Raises TooManyAtOnce."""
    take_turn()
    answer = StreamingHttpResponse(as_csv_for_people(columns, rows), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="job-{job.pk}.csv"'
    return answer


def _with_titles(page: Sequence[JobItem]) -> Iterator[tuple[JobItem, str | None, str]]:
    """The items, each with what was probably meant, and with the title of its book if that is stored."""
    stored = Edition.objects.filter(pk__in=[item.isbn13 for item in page if item.isbn13])
    titles = dict(stored.values_list("isbn13", "title"))
    return ((item, suggestion_of(item), titles.get(item.isbn13, "")) for item in page)


def _isbn_rows(items: QuerySet[JobItem]) -> Iterator[Row]:
    in_order = in_batches(items, keys=["position"])
    while batch := list(islice(in_order, BATCH)):
        for item, suggestion, title in _with_titles(batch):
            yield item.position, item.isbn13, item.value, item.state, item.reason, suggestion or "", title
