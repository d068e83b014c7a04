"""One key, or all long requests together, never take more than a share of the threads of a web process."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx2
import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from alexandria.common import turns
from alexandria.common.turns import LONG_BODY
from alexandria.development.sandbox.faults import Fault
from alexandria.development.sandbox.server import Sandbox
from quota.models import Consumer, ConsumerKey
from tests import processes
from tests.fixtures import known_isbns, problem
from tests.processes import wait_until

LONG = 60.0
"""Seconds that ISBNdb takes to answer. Nobody waits for that long: the test ends before."""
SHORT = 20.0
"""Seconds after which a request that needs milliseconds counts as not answered, on a busy machine too."""


@pytest.fixture
def web(sandbox: Sandbox, tmp_path: Path) -> Iterator[str]:
    """The address of a real web process with 8 threads."""
    port, log = processes.unused_port(), tmp_path / "web.log"
    process = processes.start("web", log, PORT=str(port), BIND="127.0.0.1", WEB_CONCURRENCY="1")
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx2.get(f"{address}/livez").status_code == 200
        except httpx2.TransportError:
            return False

    try:
        wait_until(answers, process, log=log)
        yield address
    finally:
        processes.kill(process)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_twenty_long_requests_of_one_key_leave_the_service_to_all_others(
    web: str, sandbox: Sandbox, consumer: Consumer, key: str
) -> None:
    _, other_key = ConsumerKey.objects.create_key(name="other", consumer=Consumer.objects.create(slug="other"))
    sandbox.faults.add(Fault("latency", path="/books", seconds=LONG))
    seen: list[tuple[int, str | None]] = []

    def ask(isbn: str) -> None:
        try:
            answer = httpx2.post(
                f"{web}/api/enrich/batch-direct",
                json={"isbns": [isbn]},
                headers={"Authorization": f"Api-Key {key}"},
                timeout=LONG,
            )
            seen.append((answer.status_code, answer.headers.get("Retry-After")))
        except httpx2.TransportError:  # the end of the test
            pass

    asking = [threading.Thread(target=ask, args=(isbn,), daemon=True) for isbn in known_isbns(20)]
    for thread in asking:
        thread.start()

    others = {"Authorization": f"Api-Key {other_key}"}
    for _ in range(3):
        assert httpx2.get(f"{web}/livez", timeout=SHORT).status_code == 200
        assert httpx2.get(f"{web}/api/quota/status", headers=others, timeout=SHORT).status_code == 200
        assert httpx2.get(f"{web}/api/books/9780441013593", headers=others, timeout=SHORT).status_code == 404
    wait_until(lambda: len(seen) == 18)
    assert Counter(seen) == {(429, "1"): 18}


@contextmanager
def under_way(*senders: str) -> Iterator[None]:
    """While the block runs, each of the senders has a request under way that takes long."""
    over = threading.Event()
    taken = threading.Semaphore(0)

    def work(sender: str) -> None:
        turns.name_sender(sender)
        turns.take_turn()
        taken.release()
        over.wait()
        turns.end_turn()

    threads = [threading.Thread(target=work, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
        taken.acquire()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def sender_of(key: str) -> str:
    return f"key {key.partition('.')[0]}"


LONG_REQUESTS = {
    "that wait for ISBNdb": lambda api: api.post("/api/enrich/batch-direct", {"isbns": known_isbns(1)}, "json"),
    "searches": lambda api: api.get("/api/books?title=dune"),
    "lookups": lambda api: api.post("/api/books/lookup", {"isbns": known_isbns(1)}, "json"),
    "long bodies": lambda api: api.post("/api/enrich/queue", {"isbns": [" " * LONG_BODY]}, "json"),
}


@pytest.mark.parametrize("name", LONG_REQUESTS)
@pytest.mark.django_db(transaction=True)
def test_a_key_over_its_share_is_refused_before_anything_is_done(
    name: str, api: APIClient, sandbox: Sandbox, key: str
) -> None:
    with under_way(*[sender_of(key)] * 2):
        refused = LONG_REQUESTS[name](api)
        body = problem(refused, 429)
        assert (body["code"], refused.headers["Retry-After"]) == ("too_many_at_once", "1")
        assert sandbox.requests == []
        assert api.get("/api/quota/status").json()["used"] == 0
    assert LONG_REQUESTS[name](api).status_code != 429


@pytest.mark.django_db(transaction=True)
def test_long_requests_of_all_keys_together_take_half_of_the_threads(api: APIClient) -> None:
    with under_way("key a", "key a", "key b", "key c"):
        assert problem(api.get("/api/books?title=dune"), 429)["code"] == "too_many_at_once"
        assert api.get("/api/jobs").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_request_that_becomes_a_job_is_taken_without_a_turn(api: APIClient, sandbox: Sandbox, key: str) -> None:
    with under_way(*[sender_of(key)] * 2):
        answer = api.post(
            "/api/enrich/batch-direct", {"isbns": known_isbns(1)}, "json", headers={"Prefer": "respond-async"}
        )
    assert answer.status_code == 202


@pytest.mark.django_db(transaction=True)
def test_a_book_that_is_fresh_needs_no_turn_and_isbndbs_interface_refuses_in_its_own_words(
    api: APIClient, sandbox: Sandbox, key: str
) -> None:
    stored, other = known_isbns(2)
    assert api.get(f"/isbndb/book/{stored}").status_code == 200
    with under_way(*[sender_of(key)] * 2):
        assert api.get(f"/isbndb/book/{stored}").status_code == 200
        refused = api.get(f"/isbndb/book/{other}")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert refused.json()["message"] == "Per minute quota exceeded"


@pytest.mark.django_db(transaction=True)
def test_a_turn_ends_with_its_request_however_that_ends(api: APIClient, sandbox: Sandbox, settings) -> None:
    settings.MAX_LONG_REQUESTS = 1
    for _ in range(2):
        assert api.get("/api/books?title=dune&cursor=nonsense").status_code == 400
    sandbox.faults.add(Fault("status", status=500))
    for isbn in known_isbns(2):
        assert api.post("/api/enrich/batch-direct", {"isbns": [isbn]}, "json").status_code == 502
    assert threading.get_ident() not in turns._taken


class NotToBeRead(BytesIO):
    """A body that comes slowly. To read it takes a thread."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("The body was read.")


@pytest.mark.django_db(transaction=True)
def test_a_user_of_the_admin_has_a_share_too_and_reads_why_a_page_was_refused(admin_user: User, client: Client) -> None:
    client.force_login(admin_user)
    with under_way(*[f"user {admin_user.pk}"] * 2):
        for path in ("enrichment/edition/?q=dune", "enrichment/edition/export-csv/"):
            page = client.get(f"/admin/{path}", follow=False)
            assert (page.status_code, page.headers["Retry-After"]) == (429, "1")
            assert "2 requests of yours" in page.content.decode()
        form = client.post(
            "/admin/enrichment/edition/",
            {"q": "x" * LONG_BODY},
            **{"wsgi.input": NotToBeRead()},  # type: ignore[arg-type]
        )
        assert form.status_code == 429
        assert client.get("/admin/enrichment/edition/").status_code == 200
    assert client.get("/admin/enrichment/edition/?q=dune").status_code == 200
