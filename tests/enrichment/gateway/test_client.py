"""The gateway against a real HTTP server: what it sends, what that costs, and what the journal records."""

import importlib.util
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from alexandria.development.sandbox import server
from alexandria.development.sandbox.faults import Fault, Faults
from alexandria.development.sandbox.server import Sandbox
from enrichment.books.decoding import Answer
from enrichment.exceptions import (
    IsbndbError,
    IsbndbRefused,
    IsbndbTimeout,
    IsbndbUnavailable,
    IsbndbUndecodable,
)
from enrichment.gateway import asking
from enrichment.gateway import connection as isbndb
from enrichment.gateway.asking import ask
from enrichment.gateway.connection import close_connections
from enrichment.gateway.listings import books_by_author, page_of
from enrichment.gateway.questions import KeyUsage, batch_of, key_usage
from enrichment.gateway.replies import TOO_FAST_PAUSE_SECONDS, without_key
from quota.exceptions import QuotaRefused, QuotaUnavailable
from quota.models import Call, Consumer, DailyLedger
from quota.prices import RequestKind
from quota.selectors.status import get_status
from quota.services import reservations
from quota.services.reservations import DispatchedCall
from quota.spending import MAX_PACE_WAIT, Spender, spending
from tests.fixtures import SetClock, balance, known_isbns, stop_database_clock, unknown_isbns

MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)
ASKED = known_isbns(3) + unknown_isbns(1)
TOO_FAST = {"status": 429, "body": {"message": "Per minute quota exceeded"}}

pytestmark = pytest.mark.usefixtures("consumer", "sandbox")


def fetch(calls: int = 1) -> Answer:
    with spending(consumer="reader", operation="test", calls=calls) as spender:
        return ask(batch_of(ASKED, spender))


def journal() -> list[tuple[str, int | None]]:
    return list(Call.objects.order_by("id").values_list("outcome", "status"))


def delay_of_another_consumers_next_call() -> timedelta:
    Consumer.objects.create(slug="other")
    reservation, _, answer = reservations.reserve_and_dispatch(
        consumer="other", operation="test", calls=1, kind=RequestKind.PAGE, method="GET", path="/author/x"
    )
    reservations.settle(reservation)
    assert isinstance(answer, timedelta)
    return answer


def test_one_call_fetches_a_batch_of_books(sandbox: Sandbox) -> None:
    answer = fetch()
    assert {book.isbn13 for book in answer.books} == set(known_isbns(3))
    row = Call.objects.get()
    assert (row.outcome, row.status, row.isbns_asked, row.isbns_found) == ("ok", 200, 4, 3)
    assert (row.method, row.path, row.error) == ("POST", "/books", "")
    assert row.latency_ms is not None
    assert balance(sandbox) == (1, 1)


def test_isbndbs_own_counter_is_fetched(sandbox: Sandbox) -> None:
    with spending(consumer="reader", operation="test", calls=1) as spender:
        assert ask(key_usage(spender)) == KeyUsage(total=15_000, spent=1, left=14_999)
    row = Call.objects.get()
    assert (row.outcome, row.method, row.path, row.isbns_asked) == ("ok", "GET", "/key", None)
    assert balance(sandbox) == (1, 1)


def test_a_call_is_committed_before_its_request_arrives(sandbox: Sandbox) -> None:
    seen = []

    class Onlooker(Faults):
        """Reads the database from the server's thread when a request arrives."""

        def meet(self, path: str) -> tuple[float, Fault | None]:
            seen.append((get_status().used, Call.objects.filter(outcome="unknown", path=path, isbns_asked=4).count()))
            connection.close()
            return super().meet(path)

    sandbox.faults = Onlooker()
    sandbox.add_fault("status", status=500, times=1)
    fetch()
    assert seen == [(1, 1), (2, 1)]


def test_requests_share_one_connection(sandbox: Sandbox) -> None:
    with spending(consumer="reader", operation="test", calls=3) as spender:
        for _ in range(3):
            ask(batch_of(ASKED, spender))
    assert len(sandbox.requests) == 3
    assert sandbox._server is not None
    assert len(sandbox._server._open) == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", [{"kind": "latency", "seconds": 60}, {"kind": "drip", "seconds": 4}], ids=str)
def test_an_answer_that_takes_too_long_costs_a_call_and_is_not_retried(sandbox: Sandbox, settings, fault) -> None:
    settings.ISBNDB_TIMEOUT_SECONDS = 0.4
    sandbox.add_fault(**fault)
    with pytest.raises(IsbndbTimeout, match=r"within 0\.4 s"):
        fetch()
    assert journal() == [("timeout", None)]
    assert Call.objects.get().error
    assert balance(sandbox) == (1, 1)


@contextmanager
def trickling_head() -> Iterator[str]:
    """The address of a server that sends the head of its answer line by line for ten seconds and then disconnects."""

    def serve() -> None:
        caller, _ = listener.accept()
        with caller, suppress(OSError):
            caller.recv(65536)
            caller.sendall(b"HTTP/1.1 200 OK\r\n")
            for number in range(100):
                if done.wait(0.1):
                    return
                caller.sendall(b"X-Line: %d\r\n" % number)

    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


@pytest.mark.slow
def test_a_slow_head_ends_at_the_timeout(settings) -> None:
    settings.ISBNDB_TIMEOUT_SECONDS = 0.5
    with trickling_head() as settings.ISBNDB_BASE_URL:
        with pytest.raises(IsbndbTimeout):
            fetch()
        close_connections()
    assert journal() == [("timeout", None)]


@pytest.mark.slow
def test_a_connection_timeout_is_retried_because_nothing_was_sent(settings) -> None:
    settings.ISBNDB_TIMEOUT_SECONDS = 0.3
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # its queue is full: it does not even refuse the next connection
            caller = waiting.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        settings.ISBNDB_BASE_URL = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(IsbndbUnavailable):
            fetch()
    assert journal() == [("connection_failed", None)] * 3
    assert "ConnectTimeout" in Call.objects.latest("id").error


def test_requests_name_the_client_and_accept_compressed_answers(sandbox: Sandbox, monkeypatch) -> None:
    seen = []
    parse = server._Handler.parse_request

    def look(handler: server._Handler) -> bool:
        good = parse(handler)
        seen.append((handler.headers["User-Agent"], "gzip" in handler.headers["Accept-Encoding"]))
        return good

    monkeypatch.setattr(server._Handler, "parse_request", look)
    with spending(consumer="reader", operation="test", calls=3) as spender:
        ask(batch_of(ASKED, spender))
        ask(key_usage(spender))
        ask(page_of(books_by_author("Somebody"), spender, page=1))
    assert seen == [("alexandria", True)] * 3


class RowsHeld(Faults):
    """From the first request on, existing journal rows are locked."""

    def __init__(self) -> None:
        super().__init__()
        self.holder = connection.copy()

    def meet(self, path: str) -> tuple[float, Fault | None]:
        self.holder.set_autocommit(False)
        self.holder.cursor().execute("SELECT FROM quota_call FOR UPDATE")
        return super().meet(path)


@pytest.fixture
def journal_held(consumer: Consumer, sandbox: Sandbox) -> Iterator[None]:
    sandbox.faults = held = RowsHeld()
    held.holder.inc_thread_sharing()
    connection.cursor().execute("SET lock_timeout = '50ms'")
    yield
    held.holder.close()
    held.holder.dec_thread_sharing()
    connection.close()


@pytest.mark.slow
@pytest.mark.usefixtures("journal_held")
def test_an_answer_is_used_even_if_the_journal_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    assert len(fetch().books) == 3
    assert journal() == [("unknown", None)]
    assert get_status().used == 1
    assert "isbndb.not_recorded" in caplog.text


@pytest.mark.usefixtures("journal_held")
def test_a_closed_day_holds_even_if_the_journal_cannot_be_written(sandbox: Sandbox) -> None:
    sandbox.add_fault("daily_limit", times=1)
    with pytest.raises(QuotaRefused) as caught:
        fetch()
    assert (caught.value.limit, journal()) == ("day_closed", [("unknown", None)])
    assert not get_status().can_make_calls


@pytest.mark.parametrize("kind", ["drop", "drop_before_answer", "truncate"])
def test_a_broken_connection_is_tried_three_times_with_one_call_each(sandbox: Sandbox, kind: str) -> None:
    sandbox.add_fault(kind)
    with pytest.raises(IsbndbUnavailable):
        fetch()
    assert journal() == [("connection_failed", None)] * 3
    assert balance(sandbox) == (3, 3)


def test_a_refused_connection_is_tried_three_times_and_counted_although_nothing_arrived(
    sandbox: Sandbox, settings
) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        settings.ISBNDB_BASE_URL = f"http://127.0.0.1:{nobody_listens.getsockname()[1]}"
        with pytest.raises(IsbndbUnavailable):
            fetch()
    assert journal() == [("connection_failed", None)] * 3
    assert "refused" in Call.objects.latest("id").error
    assert balance(sandbox) == (0, 3)


def test_a_second_call_fetches_the_books_after_a_failure(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=500, times=1, body="<h1>Oops</h1>")
    assert len(fetch().books) == 3
    assert journal() == [("server_error", 500), ("ok", 200)]
    assert Call.objects.earliest("id").error == "<h1>Oops</h1>"
    assert balance(sandbox) == (2, 2)


def test_after_three_failures_there_is_no_retry(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=502)
    with pytest.raises(IsbndbUnavailable, match="502"):
        fetch()
    assert journal() == [("server_error", 502)] * 3
    assert balance(sandbox) == (3, 3)


def test_there_is_no_retry_without_a_call_for_it(sandbox: Sandbox, settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 2, 1
    sandbox.add_fault("status", status=500, times=1)
    with pytest.raises(IsbndbUnavailable, match="status 500") as caught:
        fetch()
    assert isinstance(caught.value.__cause__, QuotaRefused)
    assert (caught.value.given_up, caught.value.retry_after) == (True, None)
    assert balance(sandbox) == (1, 1)


def test_a_retry_takes_a_free_call_and_otherwise_a_reserved_one(sandbox: Sandbox, settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 4, 1
    sandbox.add_fault("status", status=500, times=2)
    with spending(consumer="reader", operation="test", calls=2) as spender:
        assert len(ask(batch_of(ASKED, spender)).books) == 3
        assert spender.left == 0, "both reserved calls and the only free one are spent"
    assert balance(sandbox) == (3, 3)


@pytest.mark.parametrize(("calls", "in_hand"), [(7, 3), (8, 4)])
def test_a_retry_takes_calls_in_hand_only_if_they_pay_for_all_of_it(
    sandbox: Sandbox, settings, calls: int, in_hand: int
) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER, settings.ISBNDB_BATCH_PRICE = calls + 1, 1, "isbn"
    sandbox.set_plan(batch_price="isbn")
    sandbox.add_fault("status", status=500, times=1)
    with spending(consumer="reader", operation="test", calls=calls) as spender:
        if in_hand < len(ASKED):
            with pytest.raises(IsbndbUnavailable, match="status 500"):
                ask(batch_of(ASKED, spender))
            assert spender.left == in_hand
        else:
            assert len(ask(batch_of(ASKED, spender)).books) == 3
            assert spender.left == 0


def test_without_the_database_a_retry_takes_no_call_in_hand(sandbox: Sandbox, monkeypatch) -> None:
    def out_of_reach(*_: object, **__: object) -> None:
        raise QuotaUnavailable

    monkeypatch.setattr(reservations, "extend", out_of_reach)
    sandbox.add_fault("status", status=500, times=1)
    with pytest.raises(IsbndbUnavailable), spending(consumer="reader", operation="test", calls=2) as spender:
        ask(batch_of(ASKED, spender))
    assert journal() == [("server_error", 500)]


@pytest.mark.parametrize(
    ("retry_after", "attempts", "least", "most"),
    [(None, 1, 0.5, 1.5), (None, 2, 1, 3), (None, 3, 2, 6), (0.0, 1, 0, 1), (5.0, 2, 5, 6), (20.0, 1, 20, 21)],
)
def test_a_retry_never_comes_before_its_time(
    monkeypatch, retry_after: float | None, attempts: int, least: float, most: float
) -> None:
    monkeypatch.setattr(asking, "FIRST_RETRY_PAUSE_SECONDS", 0.5)
    error = IsbndbUnavailable("a test", retry_after=retry_after)
    pauses = [asking._pause_before_retry(error, attempts) for _ in range(50)]
    assert all(pause is not None and least <= pause <= most for pause in pauses)
    assert asking._pause_before_retry(IsbndbUnavailable("a test", retry_after=20.001), attempts) is None


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds of every real back-off."""
    seen: list[float] = []
    pause_before_retry = asking._pause_before_retry

    def remember(error: IsbndbUnavailable, attempts: int) -> float | None:
        if pause := pause_before_retry(error, attempts):
            seen.append(pause)
        return pause

    monkeypatch.setattr(asking, "FIRST_RETRY_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(asking, "_pause_before_retry", remember)
    return seen


@pytest.mark.slow
def test_retries_back_off_with_jitter(sandbox: Sandbox, waits: list[float]) -> None:
    for _ in range(2):
        sandbox.add_fault("status", status=500, times=1)
        fetch()
    assert all(0.5 <= wait <= 1.5 for wait in waits)
    assert waits[0] != waits[1]


@pytest.mark.slow
def test_a_retry_waits_as_long_as_isbndb_asks(sandbox: Sandbox, waits: list[float]) -> None:
    sandbox.add_fault("status", status=503, times=1, headers={"Retry-After": "1"})
    fetch()
    assert 1 <= waits[0] <= 2
    assert journal() == [("server_error", 503), ("ok", 200)]


@pytest.mark.slow
def test_too_fast_is_retried_with_a_new_call_after_all_workers_pause_one_second(sandbox: Sandbox) -> None:
    sandbox.set_limits(max_rps=1)
    fetch()
    assert len(fetch().books) == 3
    assert journal() == [("ok", 200), ("too_fast", 429), ("ok", 200)]
    _, refused, again = Call.objects.order_by("id")
    assert again.send_at >= refused.send_at + timedelta(seconds=TOO_FAST_PAUSE_SECONDS)
    assert balance(sandbox) == (3, 3)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_too_fast_pauses_all_workers_as_long_as_isbndb_asks(sandbox: Sandbox, set_clock: SetClock, form: str) -> None:
    header = "60" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    sandbox.add_fault("status", **TOO_FAST, headers={"Retry-After": header})
    with pytest.raises(IsbndbUnavailable):
        fetch()
    pause = DailyLedger.objects.get().next_dispatch_at - Call.objects.get().send_at
    assert timedelta(seconds=30) < pause < timedelta(seconds=70)  # the date is in whole seconds, and time passes
    assert delay_of_another_consumers_next_call() > timedelta(seconds=30)


def test_a_too_long_pause_is_not_waited_for(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", **TOO_FAST, headers={"Retry-After": str(int(asking.MAX_RETRY_AFTER_SECONDS) + 1)})
    with pytest.raises(IsbndbUnavailable) as caught:
        fetch()
    assert caught.value.retry_after == 21
    assert journal() == [("too_fast", 429)]
    assert balance(sandbox) == (1, 1)


@pytest.mark.parametrize(("limit_answer", "status"), [("429-daily-quota", 429), ("403-daily-quota", 403)])
def test_when_isbndb_says_daily_quota_exceeded_nothing_more_is_sent(
    sandbox: Sandbox, limit_answer: str, status: int
) -> None:
    sandbox.set_plan(limit_answer=limit_answer)
    sandbox.set_limits(daily_limit=1)
    fetch()
    for _ in range(2):
        with pytest.raises(QuotaRefused) as caught:
            fetch()
        assert (caught.value.limit, caught.value.retry_at) == ("day_closed", MIDNIGHT)
    Consumer.objects.create(slug="other")
    with pytest.raises(QuotaRefused):
        reservations.reserve(consumer="other", operation="test", calls=1)
    assert journal() == [("ok", 200), ("quota_exceeded", status)]
    assert "Daily quota exceeded" in (get_status().closed_reason or "")
    assert balance(sandbox) == (2, 2)


def test_the_day_after_a_closed_day_is_open(sandbox: Sandbox, set_clock: SetClock) -> None:
    sandbox.add_fault("daily_limit", times=1)
    with pytest.raises(QuotaRefused):
        fetch()
    set_clock(MIDNIGHT + timedelta(minutes=1))
    assert len(fetch().books) == 3


def test_an_unknown_key_is_not_retried(sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_API_KEY = "another-key"
    with pytest.raises(IsbndbRefused, match="does not accept our key"):
        fetch()
    assert journal() == [("refused", 401)]
    assert balance(sandbox) == (0, 1)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refused_request_is_not_retried_and_the_day_stays_open(sandbox: Sandbox, status: int) -> None:
    sandbox.add_fault("status", status=status, body={"message": "Forbidden"}, path="/books")
    with pytest.raises(IsbndbRefused):
        fetch()
    first, *question = journal()
    assert first == ("not_found" if status == 404 else "refused", status)
    assert question == ([] if status == 400 else [("ok", 200)]), "a 403 or 404 can mean that the day is over"
    assert get_status().can_make_calls
    assert balance(sandbox) == (1 + len(question),) * 2


def test_without_an_isbndb_key_no_call_is_spent(sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_API_KEY = ""
    with pytest.raises(IsbndbRefused, match="ISBNDB_API_KEY"):
        fetch()
    assert not Call.objects.exists()
    assert sandbox.requests == []


@pytest.mark.parametrize("elsewhere", ["same server", "another server"])
def test_a_redirect_is_not_followed(sandbox: Sandbox, elsewhere: str) -> None:
    with Sandbox() as other:
        headers = {} if elsewhere == "same server" else {"Location": f"{other.url}/books"}
        sandbox.add_fault("redirect", status=307, headers=headers)
        with pytest.raises(IsbndbRefused, match="ISBNDB_BASE_URL"):
            fetch()
        assert other.requests == []
    assert [request["path"] for request in sandbox.requests] == ["/books"]
    assert journal() == [("refused", 307)]
    assert balance(sandbox) == (1, 1)


@pytest.mark.parametrize(
    "body", [None, "", '{"data": [{"isbn13": "97', {"message": "no books"}, [1], {"data": {}}], ids=str
)
def test_an_unreadable_answer_costs_a_call_and_is_not_retried(sandbox: Sandbox, body: object) -> None:
    sandbox.add_fault("garbage", body=body)  # None: an HTML page
    with pytest.raises(IsbndbUndecodable):
        fetch()
    assert journal() == [("undecodable", 200)]
    assert Call.objects.get().error
    assert balance(sandbox) == (1, 1)


def test_a_call_sends_only_one_request(sandbox: Sandbox, monkeypatch) -> None:
    dispatch = Spender.dispatch
    calls: list[DispatchedCall] = []

    def always_the_first(self: Spender, *args, **options) -> DispatchedCall | timedelta:
        if calls:
            return calls[0]
        answer = dispatch(self, *args, **options)
        if isinstance(answer, DispatchedCall):
            calls.append(answer)
        return answer

    monkeypatch.setattr(Spender, "dispatch", always_the_first)
    fetch()
    with pytest.raises(RuntimeError, match="a dispatch of its own"):
        fetch()
    assert balance(sandbox) == (1, 1)


@pytest.mark.slow
def test_a_call_delayed_until_midnight_stays_spent_and_is_not_sent(sandbox: Sandbox, monkeypatch) -> None:
    dispatch = Spender.dispatch

    def held_up(self: Spender, *args, **options) -> DispatchedCall | timedelta:
        answer = dispatch(self, *args, **options)
        if isinstance(answer, DispatchedCall):
            answer.send_after = answer.send_before
        return answer

    monkeypatch.setattr(Spender, "dispatch", held_up)
    stop_database_clock(MIDNIGHT - timedelta(seconds=2.7))
    with pytest.raises(QuotaRefused) as caught:
        fetch()
    assert (caught.value.limit, caught.value.retry_at) == ("midnight", MIDNIGHT)
    assert journal() == [("not_sent", None)]
    assert DailyLedger.objects.get().used == 1
    assert sandbox.requests == []


@pytest.mark.slow
def test_the_key_is_in_no_log_journal_or_error(sandbox: Sandbox, settings, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, name)
    settings.ISBNDB_TIMEOUT_SECONDS = 0.5
    echo = {"body": f"The key {sandbox.key} is not right"}
    faults: list[dict[str, Any]] = [
        {"kind": "status", "status": 500, **echo, "times": 3},
        {"kind": "status", "status": 403, **echo, "times": 1},
        {"kind": "status", "status": 401, **echo, "times": 1},
        {"kind": "garbage", **echo, "times": 1},
        {"kind": "latency", "seconds": 60, "times": 1},
        {"kind": "daily_limit", "times": 1},
    ]
    fetch()
    said = []
    for fault in faults:
        sandbox.add_fault(**fault)
        with pytest.raises((IsbndbError, QuotaRefused)) as caught:
            fetch()
        said.append(str(caught.value))
    rows = [str(row) for table in (Call, DailyLedger) for row in table.objects.values()]
    assert len(Call.objects.all()) == 10, "after the 403, ISBNdb's counter was asked"
    assert [text for text in (*said, *rows, *caplog.messages, caplog.text) if sandbox.key in text] == []
    assert "isbndb.call" in caplog.text


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 403}, {"kind": "garbage"}], ids=["refused", "garbage"])
def test_no_part_of_the_key_remains_at_the_end_of_a_cut_answer(sandbox: Sandbox, fault: dict[str, Any]) -> None:
    half = len(sandbox.key) // 2
    body = {"garbage": "x" * (100 - half), "status": "x" * (1000 - half)}[fault["kind"]] + sandbox.key
    sandbox.add_fault(**fault, body=body + " \0and more of it", path="/books")
    with pytest.raises(IsbndbError) as caught:
        fetch()
    assert "xx" not in str(caught.value)
    assert sandbox.key[:half] not in Call.objects.earliest("id").error


def test_a_key_split_by_nul_bytes_is_masked(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=400, body="\0".join(sandbox.key))
    with pytest.raises(IsbndbRefused):
        fetch()
    assert Call.objects.get().error == "<key>"


def test_without_a_key_nothing_is_masked(settings) -> None:
    settings.ISBNDB_API_KEY = ""
    assert without_key("as it is") == "as it is"


def test_only_the_journal_has_the_target_of_a_redirect(sandbox: Sandbox) -> None:
    sandbox.add_fault("redirect", headers={"Location": f"https://elsewhere.example/?key={sandbox.key}"})
    with pytest.raises(IsbndbRefused) as caught:
        fetch()
    assert "elsewhere.example" not in str(caught.value)
    assert "https://elsewhere.example/?key=<key>" in Call.objects.get().error


def test_a_lease_shorter_than_the_longest_call_prevents_the_start(monkeypatch, settings) -> None:
    spec = importlib.util.spec_from_file_location("the_gateway_once_more", asking.__file__)
    assert spec is not None
    assert spec.loader is not None
    request = settings.ISBNDB_TIMEOUT_SECONDS + asking.MAX_RETRY_AFTER_SECONDS + 1
    longest = MAX_PACE_WAIT + timedelta(seconds=request)
    monkeypatch.setattr(reservations, "LEASE", longest + timedelta(seconds=1))
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    monkeypatch.setattr(reservations, "LEASE", longest)
    with pytest.raises(ImproperlyConfigured, match="lease"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_a_connection_is_made_before_the_day_of_its_call_ends(sandbox: Sandbox) -> None:
    request = isbndb.new_request("GET", "/key")
    send_before = time.monotonic() + 1
    isbndb.exchange(request, send_before)
    assert request.extensions["timeout"]["connect"] == send_before
