"""Paid answers that the database cannot take: nothing is thrown away, and the fleet buys nothing more meanwhile."""

import fcntl
import itertools
import json
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
from django.db import connection

from alexandria.common.stopping import EndAtOnce
from alexandria.development.sandbox.server import Sandbox
from enrichment.books import aside
from enrichment.books.aside import answers_aside, store_aside
from enrichment.books.decoding import decode_books
from enrichment.books.storage import store_books
from enrichment.exceptions import EnrichmentStopped
from enrichment.gateway import asking
from enrichment.jobs.lifecycle import create_job
from enrichment.jobs.workers import run_job
from enrichment.models import Edition, Job, Miss
from enrichment.services import enrich
from enrichment.services.bibliographies import enrich_bibliography
from enrichment.services.enrich import enrich_isbns
from enrichment.services.isbndb import get_author_page
from enrichment.tasks import resume_jobs
from quota.exceptions import PaceTimeout
from quota.models import Consumer
from quota.selectors.status import get_status
from quota.services import reservations
from quota.spending import spending
from tests.fixtures import NOON, SetClock, balance, known_isbns, unknown_isbns

KNOWN, UNKNOWN = known_isbns(12), unknown_isbns(2)

pytestmark = pytest.mark.usefixtures("consumer", "sandbox", "impatient")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is put aside after the first try."""
    monkeypatch.setattr(aside, "PATIENCE", timedelta())


@contextmanager
def full_disk() -> Iterator[None]:
    """PostgreSQL takes no more books. It can still write what needs no more space, such as the ledger."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'No space left on device' USING ERRCODE = '53100'; END $$"
        )
        for table in ("enrichment_edition", "enrichment_miss"):
            cursor.execute(f"CREATE TRIGGER no_space BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION no_space()")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION no_space CASCADE")


def stored() -> set[str]:
    return set(Edition.objects.values_list("pk", flat=True))


def test_an_answer_that_comes_while_the_disk_is_full_is_kept_and_stored_later_and_costs_no_second_call(
    sandbox: Sandbox,
) -> None:
    with full_disk():
        with pytest.raises(EnrichmentStopped) as stopped:
            enrich_isbns([*KNOWN[:3], *UNKNOWN], consumer="reader")
        assert (stopped.value.result.api_calls, stored(), answers_aside(), store_aside()) == (1, set(), 1, 0)
    assert (store_aside(), answers_aside(), stored()) == (1, 0, set(KNOWN[:3]))
    assert set(Miss.objects.values_list("pk", flat=True)) == set(UNKNOWN)
    assert enrich_isbns([*KNOWN[:3], *UNKNOWN], consumer="reader").api_calls == 0
    assert balance(sandbox) == (1, 1)


@pytest.mark.slow
def test_what_is_under_way_when_storing_fails_is_kept_too(sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 2
    sandbox.add_fault("latency", seconds=0.3)
    with full_disk(), pytest.raises(EnrichmentStopped):
        enrich_isbns(KNOWN, consumer="reader")
    assert answers_aside() == sandbox.spent > 1
    assert store_aside() == sandbox.spent
    assert len(stored()) == 2 * sandbox.spent
    assert balance(sandbox) == (sandbox.spent, sandbox.spent)


@pytest.mark.slow
def test_of_what_is_under_way_when_storing_fails_the_isbns_that_isbndb_does_not_know_are_kept_too(
    sandbox: Sandbox, settings
) -> None:
    settings.ISBNDB_BATCH_SIZE = 2
    sandbox.add_fault("latency", seconds=0.3)
    wanted = [isbn for pair in zip(KNOWN, unknown_isbns(len(KNOWN)), strict=True) for isbn in pair]
    with full_disk(), pytest.raises(EnrichmentStopped):
        enrich_isbns(wanted, consumer="reader")
    assert store_aside() == sandbox.spent > 1
    assert len(stored()) == Miss.objects.count() == sandbox.spent


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_answer_is_kept_when_the_process_is_ended_while_it_is_stored(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    with monkeypatch.context() as ended:
        ended.setattr(enrich, "store_books", Mock(side_effect=end))
        with pytest.raises(end):
            enrich_isbns([*KNOWN[:3], *UNKNOWN], consumer="reader")
    assert (answers_aside(), store_aside(), stored()) == (1, 1, set(KNOWN[:3]))
    assert Miss.objects.count() == len(UNKNOWN)
    assert balance(sandbox) == (1, 1)


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_answer_is_kept_when_the_process_is_ended_while_its_outcome_is_recorded(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    with monkeypatch.context() as ended:
        ended.setattr(reservations, "record", Mock(side_effect=end))
        with pytest.raises(end):
            enrich_isbns([*KNOWN[:3], *UNKNOWN], consumer="reader")
    assert (answers_aside(), store_aside(), stored()) == (1, 1, set(KNOWN[:3]))
    assert Miss.objects.count() == len(UNKNOWN)


def test_an_answer_is_kept_when_the_process_is_ended_just_when_the_answer_is_taken(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = asking._Asking._wait

    def interrupted(self: Any, until: float | None) -> Any:
        if (taken := wait(self, until)) is not None:
            raise KeyboardInterrupt
        return taken

    with monkeypatch.context() as ended:
        ended.setattr(asking._Asking, "_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            enrich_isbns(KNOWN[:3], consumer="reader")
    assert (answers_aside(), store_aside(), stored()) == (1, 1, set(KNOWN[:3]))
    assert balance(sandbox) == (1, 1)


@contextmanager
def first_request_not_answered(sandbox: Sandbox) -> Iterator[None]:
    """Until the end, ISBNdb does not answer the request that comes first."""
    meet, requests, over = sandbox.faults.meet, itertools.count(), threading.Event()

    def wait(path: str) -> Any:
        if not next(requests):
            assert over.wait(60)
        return meet(path)

    with patch.object(sandbox.faults, "meet", wait):
        try:
            yield
        finally:
            over.set()


def test_the_second_signal_waits_for_nothing_also_while_the_caller_stores_an_answer(sandbox: Sandbox) -> None:
    parts = iter([KNOWN[:3], KNOWN[3:6]])
    batches = enrich.Batches(lambda: next(parts, []))
    with first_request_not_answered(sandbox):
        with (
            spending(consumer="reader", operation="test", calls=2) as spender,
            pytest.raises(EndAtOnce),
            closing(asking.ask_each(lambda: batches.next_question(spender))) as exchanges,
        ):
            next(exchanges)
            raise EndAtOnce
        assert "isbndb" in {thread.name for thread in threading.enumerate()}, "the first request is still under way"


def test_what_has_come_is_kept_before_a_slow_answer_is_waited_for(
    sandbox: Sandbox, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ISBNDB_BATCH_SIZE = 2
    monkeypatch.setattr(enrich, "store_books", Mock(side_effect=KeyboardInterrupt))
    thread, handler = threading.get_ident(), signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt_again() -> None:
        deadline = time.monotonic() + 20
        while answers_aside() < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        signal.pthread_kill(thread, signal.SIGINT)

    again = threading.Thread(target=interrupt_again)
    try:
        with first_request_not_answered(sandbox), pytest.raises(KeyboardInterrupt):
            again.start()
            enrich_isbns(KNOWN[:6], consumer="reader")
    finally:
        again.join()
        signal.signal(signal.SIGINT, handler)
    assert answers_aside() == 2


def test_an_operation_ends_when_no_thread_can_start(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    thread = Mock(**{"return_value.start.side_effect": RuntimeError, "return_value.is_alive.return_value": False})
    with monkeypatch.context() as full:
        full.setattr(asking, "Thread", thread)
        with pytest.raises(RuntimeError):
            enrich_isbns(KNOWN[:3], consumer="reader")
    assert (sandbox.spent, get_status().used, get_status().reserved) == (0, 1, 0), "the call was dispatched"


@pytest.mark.parametrize("raw", [False, True], ids=["a batch", "a page to pass on"])
def test_an_answer_that_is_under_way_is_kept_when_a_person_ends_the_process(sandbox: Sandbox, raw: bool) -> None:
    meet, thread = sandbox.faults.meet, threading.get_ident()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it

    def interrupt(path: str) -> Any:
        signal.pthread_kill(thread, signal.SIGINT)
        return meet(path)

    try:
        with patch.object(sandbox.faults, "meet", interrupt), pytest.raises(KeyboardInterrupt):
            if raw:
                get_author_page("Ada Brandvold", {}, consumer="reader", operation="isbndb-author")
            else:
                enrich_isbns(KNOWN[:3], consumer="reader")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (answers_aside(), store_aside(), balance(sandbox)) == (1, 1, (1, 1))
    assert stored()


def test_the_books_of_a_page_are_kept_too(sandbox: Sandbox) -> None:
    with full_disk(), pytest.raises(EnrichmentStopped):
        enrich_bibliography("Ada Brandvold", consumer="reader")
    assert (answers_aside(), stored(), sandbox.spent) == (1, set(), 1)
    assert store_aside() == 1
    kept = stored()
    enrich_bibliography("Ada Brandvold", consumer="reader")
    assert stored() == kept != set()


def test_while_many_answers_are_aside_the_fleet_pauses_says_so_and_goes_on_by_itself(
    sandbox: Sandbox, set_clock: SetClock
) -> None:
    with full_disk():
        for isbn in KNOWN[: aside.MANY]:
            assert get_status().can_make_calls
            with pytest.raises(EnrichmentStopped):
                enrich_isbns([isbn], consumer="reader")
        status = get_status()
        assert not status.can_make_calls
        assert status.paused_reason is not None
        assert "3 answers of ISBNdb could not be stored" in status.paused_reason
        with pytest.raises(EnrichmentStopped) as refused:
            enrich_isbns(KNOWN[5:6], consumer="reader")
        assert isinstance(refused.value.reason, PaceTimeout)
        set_clock(NOON + aside.PAUSE)
        assert store_aside() == 0
        assert not get_status().can_make_calls, "it still cannot store them"
        assert sandbox.spent == aside.MANY
    assert store_aside() == aside.MANY
    set_clock(NOON + 3 * aside.PAUSE)
    assert enrich_isbns(KNOWN[:6], consumer="reader").created == 3
    assert balance(sandbox) == (aside.MANY + 1, aside.MANY + 1)


@pytest.mark.slow
def test_a_job_stores_what_was_put_aside_before_it_goes_on(sandbox: Sandbox, set_clock: SetClock) -> None:
    job = create_job(consumer=Consumer.objects.get(), kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": KNOWN})
    with full_disk():
        run_job()
    assert Job.objects.get().state == "waiting"
    set_clock(NOON + timedelta(seconds=30))
    resume_jobs()  # the task
    run_job()
    job.refresh_from_db()
    assert (job.state, job.done, sandbox.spent, stored()) == ("succeeded", len(KNOWN), 1, set(KNOWN))


def test_an_answer_from_aside_does_not_replace_what_came_after_it() -> None:
    body = '{"data": [{"isbn13": "%s", "title": "%s"}]}'
    older = decode_books((body % (KNOWN[0], "Older")).encode(), key="data")
    aside.put_aside(older, missing=[KNOWN[1]])
    store_books(decode_books((body % (KNOWN[0], "Newer")).encode(), key="data").books)
    store_books(decode_books((body % (KNOWN[1], "Found")).encode(), key="data").books)
    assert store_aside() == 1
    assert set(Edition.objects.values_list("title", flat=True)) == {"Newer", "Found"}
    assert not Miss.objects.exists()


def put_one_aside(settings: Any) -> Path:
    body = json.dumps({"data": [{"isbn13": KNOWN[0], "title": "A book"}]})
    aside.put_aside(decode_books(body.encode(), key="data"))
    [path] = Path(settings.ANSWERS_DIR).iterdir()
    return path


def as_draft(path: Path, *, age: timedelta) -> Path:
    """What a process has left that died `age` ago, before it could give the file its name."""
    draft = path.rename(path.with_suffix(".part"))
    written = time.time() - age.total_seconds()
    os.utime(draft, (written, written))
    return draft


def test_the_name_of_a_file_outlasts_a_power_cut_as_its_content_does(settings, monkeypatch) -> None:
    synced: list[tuple[bool, int]] = []

    def fsync(file: int) -> None:
        named = len(list(Path(settings.ANSWERS_DIR).glob("*.json")))
        synced.append((stat.S_ISDIR(os.fstat(file).st_mode), named))

    monkeypatch.setattr(os, "fsync", fsync)
    put_one_aside(settings)
    assert synced == [(False, 0), (True, 1)]


def test_an_answer_whose_writer_died_before_the_end_is_stored_if_it_is_whole(settings) -> None:
    as_draft(put_one_aside(settings), age=2 * aside.DRAFT_AGE)
    assert (store_aside(), stored()) == (1, {KNOWN[0]})
    assert list(Path(settings.ANSWERS_DIR).iterdir()) == []


def test_an_answer_whose_writer_died_in_the_middle_is_set_apart_for_a_person(settings) -> None:
    draft = as_draft(put_one_aside(settings), age=timedelta())
    draft.write_bytes(draft.read_bytes()[:-10])
    as_draft(draft, age=2 * aside.DRAFT_AGE)
    assert (store_aside(), aside.bad_answers(), stored()) == (0, 1, set())


def test_an_answer_that_another_process_is_writing_is_left_alone(settings) -> None:
    draft = as_draft(put_one_aside(settings), age=timedelta())
    assert store_aside() == 0, "it may be younger than its lock"
    as_draft(draft, age=2 * aside.DRAFT_AGE)
    with draft.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert store_aside() == 0
    assert store_aside() == 1


def test_a_file_that_the_disk_has_no_space_for_is_not_left_behind(settings, monkeypatch) -> None:
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", Mock(side_effect=OSError("No space left on device")))
        body = json.dumps({"data": [{"isbn13": KNOWN[0], "title": "A book"}]})
        aside.put_aside(decode_books(body.encode(), key="data"))
    assert list(Path(settings.ANSWERS_DIR).iterdir()) == []


def test_each_answer_is_stored_by_one_process_and_a_broken_file_is_set_apart(settings) -> None:
    for isbn in KNOWN:
        body = json.dumps({"data": [{"isbn13": isbn, "title": "A book"}]})
        aside.put_aside(decode_books(body.encode(), key="data"))
    (Path(settings.ANSWERS_DIR) / "0.json").write_text("{")

    def store(_: int) -> int:
        try:
            return store_aside()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(store, range(4))) == len(KNOWN)
    assert stored() == set(KNOWN)
    assert [path.name for path in Path(settings.ANSWERS_DIR).iterdir()] == ["0.bad"]
