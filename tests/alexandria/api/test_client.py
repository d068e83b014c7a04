"""A client that openapi-python-client generates from the schema works with a real server."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from alexandria.development.sandbox.server import Sandbox
from quota.models import Refusal
from quota.services import reservations
from tests.api_clients import generated
from tests.fixtures import a_minute_passes, balance, known_isbns, unknown_isbns

pytestmark = pytest.mark.slow

PACKAGE = "alexandria_client"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The generated package, imported. Generation gives no warning."""
    schema = tmp_path / "schema.yaml"
    call_command("spectacular", "--file", str(schema))
    return generated(schema, PACKAGE, monkeypatch, "--fail-on-warning")


def test_a_client_generated_from_the_schema_works(client: Any, live_server, sandbox: Sandbox, key: str) -> None:
    models = importlib.import_module(f"{PACKAGE}.models")

    def ask(operation: str, *arguments: Any, key: str = key, **parameters: Any) -> tuple[int, Any]:
        function = importlib.import_module(f"{PACKAGE}.api.{operation}").sync_detailed
        connection = client.AuthenticatedClient(
            base_url=live_server.url, token=key, prefix="Api-Key", raise_on_unexpected_status=True
        )
        with connection:
            answer = function(*arguments, client=connection, **parameters)
        return int(answer.status_code), answer.parsed if answer.parsed is not None else answer.headers

    isbn = known_isbns(1)[0]
    wanted = models.BatchRequest(isbns=[isbn, "9780593135205"], source="client")
    status, answer = ask("enrich.enrich_batch_direct", body=wanted)
    assert (status, answer.enriched, answer.api_calls, answer.quota.used) == (200, 1, 1, 1)
    assert [(wrong.isbn, wrong.reason) for wrong in answer.invalid] == [("9780593135205", "wrong check digit")]

    status, book = ask("books.book", isbn)
    assert (status, book.isbn13) == (200, isbn)
    assert ask("books.book", "12345")[1].code == "not_found"
    assert ask("books.book", isbn, if_none_match="*")[0] == 304

    [found] = ask("books.books", title=book.title)[1].results
    given = models.LookupRequest(isbns=[isbn, "439023483", *unknown_isbns(1)])
    items = ask("books.books_lookup", body=given)[1].books
    assert [item.state for item in items] == ["stored", "invalid", "not_asked"]
    assert (items[0].book, items[1].suggestion) == (book, "0439023483")
    [named] = ask("books.books", isbn=[isbn], fields=[models.BooksFieldsItem.TITLE])[1].results
    assert named.to_dict() == {"isbn13": isbn, "title": book.title}
    assert ask("stats.stats")[1].books == 1
    author = ask("authors.author", found.authors[0].id)[1]
    assert (found.isbn13, author.name) == (isbn, book.authors[0].name)
    assert ask("works.work", book.work.id)[1].title == book.work.title
    queued = models.EnqueueRequest(isbns=known_isbns(2), priority=models.PriorityEnum.HIGH)
    assert ask("enrich.enrich_queue_add", body=queued)[1].queued == 1
    assert ask("enrich.enrich_queue")[1].by_priority.high == 1
    options = {"prefer": "respond-async", "idempotency_key": "a"}
    status, job = ask("enrich.enrich_batch_direct", body=wanted, **options)
    assert (status, job.state) == (202, models.JobState.QUEUED)
    other = models.BatchRequest(isbns=[isbn])
    assert ask("enrich.enrich_batch_direct", body=other, **options)[1].code == "idempotency_conflict"
    assert ask("jobs.job_cancel", job.id)[1].state == models.JobState.CANCELLED
    assert ask("jobs.job_cancel", job.id)[1].code == "job_ended"
    assert [each.id for each in ask("jobs.jobs", state=models.JobsState.CANCELLED)[1].results] == [job.id]
    assert len(ask("jobs.job_items", job.id)[1].results) == 2
    assert ask("jobs.job_books", job.id)[1].results[0].book == book

    assert ask("quota.quota_status")[1].remaining == 12_999
    mine = ask("quota.quota_me")[1]
    assert (mine.consumer.slug, mine.used, mine.free, mine.limited_by) == ("reader", 1, 12_999, "safety_limit")
    [today] = ask("quota.quota_history", days=30)[1].days
    assert [(user.consumer, user.used) for user in today.consumers] == [("reader", 1)]
    assert ask("quota.quota_forecast", calls=5_000)[1].finishes_today is True
    page = ask("quota.quota_calls", outcome=models.QuotaCallsOutcome.OK)[1]
    assert [(call.path, call.isbns_found) for call in page.results] == [("/books", 1)]
    assert ask("quota.quota_reconcile")[1].drift == 0
    assert balance(sandbox) == (2, 2)

    reservations.increment(13_000)
    a_minute_passes()
    status, problem = ask("enrich.enrich_batch_direct", body=models.BatchRequest(isbns=[isbn], refresh=True))
    assert (status, problem.code, problem.limit) == (429, "quota_exhausted", "safety_limit")
    assert problem.refusal == Refusal.objects.get().id
    assert ask("quota.quota_forecast", calls=0)[1].errors[0].field == "calls"
    assert ask("quota.quota_status", key="wrong")[1].code == "authentication_failed"
