"""The log has one line for each event, with the id of its request, and never contains a key."""

import json
import logging
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from alexandria.monitoring.logs import MAX_TEXT, MAX_TRACEBACK, logging_config
from enrichment.models import Job
from tests import processes
from tests.fixtures import database_moved, known_isbns, problem

BATCH = "/api/enrich/batch-direct"


@pytest.fixture
def written(printed: StringIO, monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """The text that the process's log handler writes in production."""
    form = logging_config(debug=False)["formatters"]["line"]
    formatter = form.pop("()")(**form)
    handlers = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    monkeypatch.setattr(handlers[0], "formatter", formatter)
    return printed


def lines(text: str) -> list[dict[str, Any]]:
    """Parses each line as one JSON object."""
    return [json.loads(line) for line in text.splitlines()]


def test_each_request_is_one_line_whatever_its_status(api: APIClient, printed: StringIO) -> None:
    expected = {"/api/quota/status": 200, "/api/books/1": 404, "/api/nope": 404, "/api/enrich/batch-direct": 405}
    assert {path: api.get(path).status_code for path in expected} == expected
    lines = printed.getvalue().splitlines()
    assert len(lines) == len(expected), printed.getvalue()
    for line, (path, status) in zip(lines, expected.items(), strict=True):
        assert "request_finished" in line
        assert path in line
        assert f"code={status}" in line


def test_each_attempt_of_a_call_is_one_line(api: APIClient, sandbox: Sandbox, printed: StringIO) -> None:
    sandbox.add_fault("status", status=500, times=1)
    assert api.post("/api/enrich/batch-direct", known_isbns(1), format="json").status_code == 200
    assert printed.getvalue().count("isbndb.call") == 2
    assert "stamina" not in printed.getvalue()


def test_every_line_of_a_request_has_its_id_and_the_lines_of_calls_have_the_consumer(
    api: APIClient, sandbox: Sandbox, written: StringIO
) -> None:
    answer = api.post(BATCH, known_isbns(1), format="json", headers={"X-Request-ID": "shop-7.b_C"})
    assert (answer.status_code, answer["X-Request-ID"]) == (200, "shop-7.b_C")
    written_lines = lines(written.getvalue())
    assert {line["request_id"] for line in written_lines} == {"shop-7.b_C"}
    [call] = [line for line in written_lines if line["event"] == "isbndb.call"]
    assert (call["consumer"], call["operation"], call["status"]) == ("reader", "batch-direct", 200)
    assert len(call["reservation"]) == 36
    [finished] = [line for line in written_lines if line["event"] == "request_finished"]
    assert (finished["consumer"], finished["code"]) == ("reader", 200)
    assert not {"reservation", "operation"} & set(finished), "the fields of a call end with it"
    assert all("shop-7" not in json.dumps(request) for request in sandbox.requests), "ISBNdb does not get the id"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 403),
        ("/admin/", 302),
        ("/nope", 404),
        ("/api/quota/status", 401),
        ("/api/docs/", 200),
        ("/static/admin/css/base.css", 200),
    ],
)
def test_every_answer_has_an_id_and_an_invalid_one_is_replaced(transactional_db, path: str, status: int) -> None:
    client = APIClient(REMOTE_ADDR="192.0.2.1")
    valid = "x" * 128
    for given in (valid, "", "x" * 129, "two words", "line\nbreak", "<b>", "ünï"):
        answer = client.get(path, headers={"X-Request-ID": given})
        answer.close()
        assert answer.status_code == status
        assert len(answer["X-Request-ID"]) == (128 if given == valid else 36)
        assert (answer["X-Request-ID"] == given) == (given == valid)


def test_an_error_has_the_same_id_as_its_log_lines(
    api: APIClient, written: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enrichment.api.books.enrich_isbns", lambda *args, **options: 1 / 0)
    failed = api.post(BATCH, known_isbns(1), format="json")
    refused = api.get("/api/quota/status", HTTP_HOST="evil.example")
    with database_moved(port=1):
        gone = api.get("/api/quota/status")
    assert [answer.status_code for answer in (failed, refused, gone)] == [500, 400, 503]
    for answer in (failed, refused, gone):
        [*about] = (line for line in lines(written.getvalue()) if line["request_id"] == answer["X-Request-ID"])
        assert problem(answer, answer.status_code)["request_id"] == answer["X-Request-ID"]
        assert "request_finished" in {line["event"] for line in about} or any("exception" in line for line in about)


@pytest.mark.slow
def test_a_job_logs_the_id_of_the_request_that_queued_it(api: APIClient, sandbox: Sandbox, tmp_path: Path) -> None:
    asked = api.post(
        BATCH, known_isbns(1), format="json", headers={"Prefer": "respond-async", "X-Request-ID": "asked-7"}
    )
    assert asked.status_code == 202
    production = {"DEBUG": "off", "ALLOWED_HOSTS": "localhost"}
    worker = processes.start("jobs", tmp_path / "log", PYTHONWARNINGS="ignore", **production)
    try:
        deadline = time.monotonic() + 60
        while Job.objects.get().state != "succeeded" and time.monotonic() < deadline:
            assert worker.poll() is None, (tmp_path / "log").read_text()
    finally:
        processes.kill(worker)
    text = (tmp_path / "log").read_text()
    events = {line["event"]: line for line in lines(text)}
    for event in ("isbndb.call", "job.ended"):
        assert events[event]["request_id"] == "asked-7"
        assert events[event]["job"] == asked.json()["id"]
    assert (events["isbndb.call"]["consumer"], events["isbndb.call"]["operation"]) == ("reader", "batch-direct")
    assert events["isbndb.call"]["reservation"]
    assert sandbox.key not in text


def test_no_key_is_logged_wherever_it_appears(
    api: APIClient, key: str, sandbox: Sandbox, settings, written: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ISBNDB_API_KEY = 'isbndb"key-of\\the-account'
    settings.METRICS_TOKEN = "scrapers-token-of-the-machine"
    settings.EMAIL_HOST_PASSWORD = "postmans-word-to-pass"
    password = settings.DATABASES["default"]["PASSWORD"]
    log = structlog.get_logger("alexandria.test")
    secrets = [key, settings.ISBNDB_API_KEY, settings.METRICS_TOKEN, password, settings.SECRET_KEY]
    secrets.append(settings.EMAIL_HOST_PASSWORD)

    def fail(*args: object, **options: object) -> None:
        for secret in secrets:
            log.error("secret", headers={"Authorization": f"Api-Key {secret}", "nested": [{"Cookie": secret}]})
            log.error(f"plainly {secret}", text=f"it is {secret!r}", ours=[secret], api_key=secret)  # noqa: G004
            logging.getLogger("plain").error("it is %s, %r", secret, {"Authorization": f"Api-Key {secret}"})
        raise ValueError(f"Authorization: {key}; {secrets!r}")

    api.get(f"/api/quota/status?api_key={key}&token=a-token-in-a-query")
    sandbox.add_fault("status", status=500)
    api.post(BATCH, known_isbns(1), format="json")
    monkeypatch.setattr("enrichment.api.books.enrich_isbns", fail)
    assert api.post(BATCH, known_isbns(1), format="json").status_code == 500
    log.error("addresses", of="postgres://user:word-to-pass@db.example/books", sent="Bearer some.body-else")

    log.error("empty", token=None, password="", cookie=0, headers=[{"authorization": None}])

    text = written.getvalue()
    assert len(lines(text)) > 20
    assert "Traceback" in text
    parts = [key.partition(".")[2], "of\\the-account", 'isbndb"key', "key-of", "scrapers-token"]
    assert all(secrets)
    for secret in (*secrets, *parts, "a-token-in-a-query", "word-to-pass", "some.body-else"):
        for form in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]):
            assert form not in text, next(line for line in text.splitlines() if form in line)
    assert "<redacted>" in text
    assert "db.example/books" in text


def test_a_line_and_its_traceback_have_a_bound(written: StringIO) -> None:
    long = "x" * 100_000
    log = structlog.get_logger("alexandria.test")
    log.error(long, path=long, nested={"list": [long] * 100}, number=7)
    logging.getLogger("plain").error("it is %s", long)
    try:
        raise ValueError(f"begin {long} end") from ValueError(long)  # noqa: TRY301
    except ValueError:
        log.exception("failed")
    text = written.getvalue()
    first, second, third = lines(text)
    assert first["number"] == 7
    assert first["path"].endswith("… (100,000 characters) …")
    assert "Traceback" in third["exception"]
    assert "test_a_line_and_its_traceback" in third["exception"]
    assert [len(json.dumps(line)) < 200_000 for line in (first, second, third)] == [True] * 3
    assert len(third["exception"]) < MAX_TRACEBACK + 100


@pytest.mark.parametrize("around", range(MAX_TEXT - 60, MAX_TEXT + 10, 7))
def test_no_part_of_a_secret_is_left_where_a_text_is_cut(around: int, written: StringIO, settings) -> None:
    settings.METRICS_TOKEN = "scrapers-token-of-the-machine"
    structlog.get_logger("alexandria.test").error("x", text="y" * around + settings.METRICS_TOKEN + "z" * 10_000)
    assert "scra" not in written.getvalue()
