"""The items of a job, its ISBNs or its authors: page by page, and all of them as a CSV file."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from alexandria.common.exports import Row, as_csv_for_people
from alexandria.common.turns import take_turn
from enrichment.models import Job, JobAuthor, JobItem

PAGE_SIZE = 100

Item = TypeVar("Item", JobItem, JobAuthor)


def in_state(items: QuerySet[Item], request: HttpRequest) -> QuerySet[Item]:
    """The items in a state that a parameter `state` names, in order; without such a parameter, all of them."""
    states = [state for state in request.GET.getlist("state") if state in items.model.State]
    return (items.filter(state__in=states) if states else items).order_by("position")


def page_of(items: QuerySet[Item], request: HttpRequest) -> tuple[list[Item], int | None]:
    """The items after the position that the parameter `after` names, and the `after` of the next page, if there is one.

    `items` are in order.
    """
    after = request.GET.get("after", "")
    found = list(items.filter(position__gt=int(after) if after.isdecimal() and len(after) < 10 else 0)[: PAGE_SIZE + 1])
    return found[:PAGE_SIZE], found[PAGE_SIZE - 1].position if len(found) > PAGE_SIZE else None


def csv_of(job: Job, columns: Sequence[str], rows: Iterable[Row]) -> StreamingHttpResponse:
    """A CSV file of the job, streamed. Raises TooManyAtOnce."""
    take_turn()
    answer = StreamingHttpResponse(as_csv_for_people(columns, rows), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="job-{job.pk}.csv"'
    return answer
