"""What several ask ISBNdb at once is asked once. The others wait for the stored answer."""

import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from rest_framework.test import APIClient

from alexandria.development.sandbox.faults import Fault
from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import EnrichmentStopped, IsbndbTimeout
from enrichment.models import Edition, ListedAuthor, OpenQuestion
from enrichment.services import bibliographies, enrich, single_flight
from enrichment.services.bibliographies import enrich_bibliography
from enrichment.services.enrich import enrich_isbns
from quota.models import Consumer, ConsumerKey
from tests import processes
from tests.fixtures import a_minute_passes, balance, known_isbns, problem, unknown_isbns
from tests.processes import wait_until

pytestmark = pytest.mark.usefixtures("consumer")

AUTHOR = "Aldous Huxley"
AT_ONCE = 6
NEW = known_isbns(1)[0]


def at_once(work: Callable[[], Any], sandbox: Sandbox) -> list[Any]:
    """The results of the work, done by AT_ONCE threads. ISBNdb's answers are slow, so all have begun by the first."""
    sandbox.faults.add(Fault("latency", seconds=1.0))
    start = threading.Barrier(AT_ONCE)

    def run(_: int) -> Any:
        try:
            start.wait()
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(run, range(AT_ONCE)))


@contextmanager
def everybody_asks(subjects: Collection[str]) -> Iterator[set[str]]:
    yield set(subjects)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("isbn", [NEW, unknown_isbns(1)[0]])
def test_an_isbn_that_several_want_at_once_is_asked_once(sandbox: Sandbox, monkeypatch, isbn: str) -> None:
    def work() -> Any:
        return enrich_isbns([isbn], consumer="reader")

    with monkeypatch.context() as without:
        without.setattr(enrich, "asking", everybody_asks)
        at_once(work, sandbox)
    assert len(sandbox.requests) > 1, "without the claim"

    other = known_isbns(2)[1] if isbn == NEW else unknown_isbns(2)[1]
    isbn, before = other, len(sandbox.requests)
    results = at_once(work, sandbox)
    assert len(sandbox.requests) - before == 1
    assert sorted(result.api_calls for result in results) == [0] * (AT_ONCE - 1) + [1]
    assert {result.already_fresh + result.enriched + result.not_found for result in results} == {1}
    assert not OpenQuestion.objects.exists()
    assert balance(sandbox) == (len(sandbox.requests), len(sandbox.requests))


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_an_author_that_several_want_at_once_is_asked_once(sandbox: Sandbox, monkeypatch) -> None:
    results = at_once(lambda: enrich_bibliography(AUTHOR, consumer="reader"), sandbox)
    assert len(sandbox.requests) == 1
    assert [result.listed is None for result in results].count(True) == 1
    assert all(result.complete for result in results)

    ListedAuthor.objects.all().delete()
    monkeypatch.setattr(bibliographies, "asking", everybody_asks)
    at_once(lambda: enrich_bibliography(AUTHOR, consumer="reader"), sandbox)
    assert len(sandbox.requests) > 2, "without the claim"


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_an_isbn_that_several_web_processes_want_at_once_is_asked_once(sandbox: Sandbox, tmp_path: Path) -> None:
    keys = [
        ConsumerKey.objects.create_key(name=slug, consumer=Consumer.objects.create(slug=slug))[1]
        for slug in (f"caller-{number}" for number in range(12))
    ]
    port, log = processes.unused_port(), tmp_path / "web.log"
    variables = {"WEB_CONCURRENCY": "3", "WEB_THREADS": "24", "PORT": str(port), "BIND": "127.0.0.1"}
    web = processes.start("web", log, **variables)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx2.get(f"{address}/livez").status_code == 200
        except httpx2.TransportError:
            return False

    def ask(key: str) -> dict[str, Any]:
        headers = {"Authorization": f"Api-Key {key}"}
        answer = httpx2.post(f"{address}/api/enrich/batch-direct", json={"isbns": [NEW]}, headers=headers, timeout=120)
        assert answer.status_code == 200, answer.content
        body: dict[str, Any] = answer.json()
        return body

    try:
        wait_until(answers, web, log=log)
        sandbox.faults.add(Fault("latency", seconds=3.0))
        with ThreadPoolExecutor(len(keys)) as threads:
            bodies = list(threads.map(ask, keys))
    finally:
        processes.kill(web)
    assert len(sandbox.requests) == 1
    assert sorted(body["api_calls"] for body in bodies) == [0] * 11 + [1]
    assert balance(sandbox) == (1, 1)


def somebody_asks(subject: str) -> None:
    OpenQuestion.objects.create(
        subject=subject, asker="00000000-0000-0000-0000-000000000001", until=Now() + timedelta(hours=1)
    )


def while_waiting(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> list[object]:
    """Lets something happen in the first pause of who waits. Returns the connections that are open in each pause."""
    pauses: list[object] = []

    def sleep(seconds: float) -> None:
        pauses.append(connection.connection)
        if len(pauses) == 1:
            happens()

    monkeypatch.setattr(single_flight, "sleep", sleep)
    return pauses


@pytest.mark.django_db(transaction=True)
def test_who_waits_holds_no_connection_and_asks_when_the_first_has_failed(sandbox: Sandbox, monkeypatch) -> None:
    somebody_asks(NEW)
    pauses = while_waiting(monkeypatch, OpenQuestion.objects.all().delete)
    assert enrich_isbns([NEW], consumer="reader").api_calls == 1
    assert pauses == [None]


@pytest.mark.django_db(transaction=True)
def test_who_waits_takes_over_when_the_lease_of_the_first_has_ended(sandbox: Sandbox, monkeypatch) -> None:
    somebody_asks(NEW)
    while_waiting(monkeypatch, lambda: OpenQuestion.objects.update(until=F("until") - timedelta(hours=2)))
    assert enrich_isbns([NEW], consumer="reader").api_calls == 1
    assert not OpenQuestion.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_only_what_nobody_else_asks_for_is_sent_first(sandbox: Sandbox, monkeypatch) -> None:
    first, second, third = known_isbns(3)
    somebody_asks(second)

    def store_second() -> None:
        OpenQuestion.objects.all().delete()
        enrich_isbns([second], consumer="reader")

    while_waiting(monkeypatch, store_second)
    result = enrich_isbns([first, second, third], consumer="reader")
    assert [request["asked"] for request in sandbox.requests] == [2, 1]
    assert (result.enriched, result.already_fresh, result.api_calls) == (2, 1, 1)


@pytest.mark.django_db(transaction=True)
def test_who_has_waited_long_enough_ends_with_what_has_come(api: APIClient, sandbox: Sandbox, monkeypatch) -> None:
    first, second = known_isbns(2)
    somebody_asks(second)
    monkeypatch.setattr(enrich, "MAX_WAIT_SECONDS", 0.0)
    while_waiting(monkeypatch, lambda: None)
    body = problem(api.post("/api/enrich/batch-direct", [first, second], format="json"), 504)
    assert (body["code"], body["api_calls"], body["result"]["enriched"]) == ("isbndb_timeout", 1, 1)
    assert [error["isbn"] for error in body["result"]["errors"]] == [second]
    with pytest.raises(EnrichmentStopped) as stopped:
        enrich_isbns([second], consumer="reader")
    assert isinstance(stopped.value.reason, IsbndbTimeout)
    assert balance(sandbox) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_a_failure_ends_the_claim(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("status", status=400))
    with pytest.raises(EnrichmentStopped):
        enrich_isbns([NEW], consumer="reader")
    assert not OpenQuestion.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_claim_lasts_as_long_as_its_asker_works(monkeypatch) -> None:
    monkeypatch.setattr(single_flight, "RENEW_EVERY", timedelta(seconds=0.01))
    with single_flight.asking({NEW}) as mine:
        assert mine == {NEW}
        began = OpenQuestion.objects.get().until
        wait_until(lambda: OpenQuestion.objects.get().until > began)
        with single_flight.asking({NEW}) as theirs:
            assert theirs == set()
    assert not OpenQuestion.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_counter_of_isbndb_is_asked_on_request_once_in_ten_seconds(api: APIClient, sandbox: Sandbox) -> None:
    assert api.post("/api/quota/reconcile").status_code == 200
    refused = api.post("/api/quota/reconcile")
    assert problem(refused, 429)["code"] == "just_reconciled"
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    assert len(sandbox.requests) == 1
    OpenQuestion.objects.update(until=F("until") - timedelta(seconds=10))
    assert api.post("/api/quota/reconcile").status_code == 200
    assert len(sandbox.requests) == 2


@pytest.mark.django_db(transaction=True)
def test_a_question_for_the_counter_that_the_quota_refuses_does_not_count(api: APIClient, sandbox: Sandbox) -> None:
    Consumer.objects.update(active=False)
    assert problem(api.post("/api/quota/reconcile"), 403)["code"] != "just_reconciled"
    Consumer.objects.update(active=True)
    assert api.post("/api/quota/reconcile").status_code == 200
    assert len(sandbox.requests) == 1


def author(api: APIClient, **fields: object) -> dict[str, Any]:
    answer = api.post("/api/authors/enrich-bibliography", {"author_name": AUTHOR, **fields}, format="json")
    assert answer.status_code == 200, answer.content
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.django_db(transaction=True)
def test_an_author_is_listed_again_within_a_day_only_on_purpose(api: APIClient, sandbox: Sandbox) -> None:
    first = author(api)
    assert (first["api_calls"], first["listed_at"]) == (1, None)
    again = author(api)
    assert (again["api_calls"], again["complete"], again["books_found"]) == (0, True, 0)
    assert again["listed_at"] is not None
    assert author(api, refresh=True)["api_calls"] == 0, "ISBNdb was asked within a minute"
    a_minute_passes()
    assert author(api)["api_calls"] == 0
    assert author(api, refresh=True)["api_calls"] == 1
    a_minute_passes()
    assert author(api, skip_existing=False)["api_calls"] == 1
    ListedAuthor.objects.update(listed_at=F("listed_at") - timedelta(days=1))
    assert author(api)["api_calls"] == 1
    assert balance(sandbox) == (4, 4)
    assert Edition.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_pages_beyond_those_that_were_listed_are_asked_for(api: APIClient, sandbox: Sandbox) -> None:
    name = {"author_name": "Agatha Christie"}
    first = author(api, **name, max_pages=1)
    again = author(api, **name, max_pages=1)
    assert (first["stopped_reason"], first["next_page"], first["api_calls"]) == ("max_pages", 2, 1)
    assert (again["stopped_reason"], again["next_page"], again["api_calls"]) == ("max_pages", 2, 0)
    assert author(api, **name, start_page=2)["api_calls"] == 1
    assert author(api, **name, max_pages=2)["api_calls"] == 2


@pytest.mark.django_db(transaction=True)
def test_the_prune_of_the_journal_deletes_old_listings_and_questions(sandbox: Sandbox) -> None:
    enrich_bibliography(AUTHOR, consumer="reader")
    somebody_asks(NEW)
    single_flight.prune_questions()
    assert (ListedAuthor.objects.count(), OpenQuestion.objects.count()) == (1, 1)
    ListedAuthor.objects.update(listed_at=F("listed_at") - timedelta(days=1))
    OpenQuestion.objects.update(until=F("until") - timedelta(days=2))
    single_flight.prune_questions()
    assert (ListedAuthor.objects.count(), OpenQuestion.objects.count()) == (0, 0)
