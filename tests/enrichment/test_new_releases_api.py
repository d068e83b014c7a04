"""POST /api/books/enrich-new-releases: requests, answers, failures, and resuming."""

import json
from datetime import date, timedelta
from unittest.mock import patch

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from alexandria.development.sandbox import listings
from alexandria.development.sandbox.listings import Filters
from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition
from enrichment.services.releases import Wanted, resume_token
from quota.models import Call, Consumer
from quota.selectors.status import get_status
from quota.services import reservations
from tests.enrichment.listening import isbns_of, on_request, pages_asked, stored, to_the_next_day
from tests.fixtures import balance, database_moved, problem

PATH = "/api/books/enrich-new-releases"
# The sandbox has 365, 1,378 and 1,425 invented books in these months, and some real ones.
MONTHS = {"start_month": "2023-12", "end_month": "2024-02"}
MONTH = {"start_month": "2024-01", "end_month": "2024-01"}  # two pages: the second is asked for after the first came


def ask(api: APIClient, **body: object) -> dict:
    response = api.post(PATH, body, format="json")
    assert response.status_code == 200, response.content
    return response.json()


def isbns_of_month(month: str, subject: str = "") -> set[str]:
    return isbns_of(listings.of_query(month, "date_published"), Filters(subject=subject))


def paths_asked(sandbox: Sandbox) -> list[str]:
    return [request["path"].rpartition("/")[2] for request in sandbox.requests]


@pytest.mark.slow
def test_the_answer_accounts_for_every_book_month_and_call(api: APIClient, sandbox: Sandbox) -> None:
    reserved: list[int] = []
    on_request(sandbox, lambda _: reserved.append(get_status().reserved))
    response = api.post(PATH, {**MONTHS, "max_pages_per_month": 3, "source": "new in"}, format="json")
    assert response.status_code == 200
    body = response.json()
    assert body.pop("duration_ms") >= 0
    assert (body["quota"]["used"], body["quota"]["reserved"], body.pop("quota")["remaining"]) == (5, 0, 12995)
    months = {month: isbns_of_month(month) for month in ("2023-12", "2024-01", "2024-02")}
    books = sum(map(len, months.values()))
    assert body == {
        "books_found": books,
        "new": books,
        "changed": 0,
        "unchanged": 0,
        "already_fresh": 0,
        "failed": 0,
        "already_existed": 0,
        "enriched": books,
        "pages_fetched": 5,
        "api_calls": 5,
        "complete": True,
        "stopped_reason": None,
        "errors": [],
        "quota_exhausted": False,
        "months_processed": ["2023-12", "2024-01", "2024-02"],
        "months_cut": [],
        "resume": None,
    }
    assert response.headers["RateLimit"].startswith('"daily";r=12995;t=')
    assert stored() == set().union(*months.values())
    assert {(call.operation, call.reservation.source) for call in Call.objects.all()} == {("new-releases", "new in")}
    # 9 calls are reserved at the start; the first page of each month releases those that its total does not need.
    assert max(reserved) <= 8
    assert sorted(zip(paths_asked(sandbox), pages_asked(sandbox), strict=True)) == [
        ("2023-12", (1, 1000)),
        ("2024-01", (1, 1000)),
        ("2024-01", (2, 1000)),
        ("2024-02", (1, 1000)),
        ("2024-02", (2, 1000)),
    ]

    cut = ask(api, start_month="2023-12", end_month="2024-01", max_pages_per_month=1)
    assert (cut["already_existed"], cut["enriched"]) == (cut["books_found"], 0)
    assert (cut["complete"], cut["months_cut"], cut["resume"], cut["api_calls"]) == (True, ["2024-01"], None, 2)
    assert balance(sandbox) == (7, 7)


@pytest.mark.slow
def test_each_subject_of_each_month_is_a_separate_search(api: APIClient, sandbox: Sandbox) -> None:
    reservations.open_ledger()
    on_request(sandbox, lambda number: sandbox.add_fault("daily_limit", times=1) if number == 4 else None)
    wanted = {"start_month": "2024-09", "end_month": "2024-10", "subjects": ["Science Fiction", "Poetry", "Poetry"]}
    body = ask(api, **wanted)
    assert (body["quota_exhausted"], body["stopped_reason"], body["complete"]) == (True, "day_closed", False)
    assert (body["pages_fetched"], body["api_calls"]) == (3, 4)
    assert sorted(paths_asked(sandbox)) == ["Poetry"] * 2 + ["Science%20Fiction"] * 2
    assert {query for query in (request["query"] for request in sandbox.requests) if "=subjects&" not in query} == set()
    assert balance(sandbox) == (4, 4)
    [missing] = [request for request in sandbox.requests if request["status"] != 200]
    assert body["months_processed"] == [month for month in ("2024-09", "2024-10") if month not in missing["query"]]

    to_the_next_day(sandbox)
    rest = ask(api, resume=body["resume"], source="again")
    assert (rest["months_processed"], rest["complete"], rest["api_calls"]) == (["2024-09", "2024-10"], True, 1)
    assert [(request["path"], request["query"]) for request in sandbox.requests[4:]] == [
        (missing["path"], missing["query"])
    ]
    assert stored() == set().union(
        *(
            isbns_of_month(month, subject)
            for month in ("2024-09", "2024-10")
            for subject in ("Science Fiction", "Poetry")
        )
    )
    assert balance(sandbox) == (1, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("one_at_a_time")
def test_a_run_that_stops_every_day_fetches_every_page_once(api: APIClient, sandbox: Sandbox) -> None:
    """ISBNdb closes each day at its second call. The figures of all days add up to those of a single run."""
    before = 0
    on_request(sandbox, lambda number: sandbox.add_fault("daily_limit", times=1) if number == before + 2 else None)
    runs: list[dict] = []
    while not runs or not runs[-1]["complete"]:
        to_the_next_day(sandbox, days=len(runs))
        before = len(sandbox.requests)
        runs.append(ask(api, resume=runs[-1]["resume"]) if runs else ask(api, **MONTHS))
        sent = len(sandbox.requests) - before
        assert balance(sandbox) == (sent, sent)
        assert len(runs) <= 5
    assert [run["quota_exhausted"] for run in runs] == [not run["complete"] for run in runs]
    assert len(runs) > 1
    assert runs[-1]["months_processed"] == ["2023-12", "2024-01", "2024-02"]
    fetched = [
        (path, page)
        for path, (page, _), request in zip(paths_asked(sandbox), pages_asked(sandbox), sandbox.requests, strict=True)
        if request["status"] == 200
    ]
    assert sorted(fetched) == [("2023-12", 1), ("2024-01", 1), ("2024-01", 2), ("2024-02", 1), ("2024-02", 2)]
    books = set().union(*(isbns_of_month(month) for month in ("2023-12", "2024-01", "2024-02")))
    assert stored() == books
    assert sum(run["enriched"] for run in runs) == len(books)


@pytest.mark.slow
def test_when_others_use_up_the_quota_the_answer_has_the_result_so_far(api: APIClient, sandbox: Sandbox) -> None:
    def spend_elsewhere(number: int) -> None:
        if number == 1:
            reservations.increment(13_000)
            sandbox.set_limits(spent=13_001)

    on_request(sandbox, spend_elsewhere)
    body = ask(api, **MONTH)
    assert (body["quota_exhausted"], body["stopped_reason"], body["pages_fetched"]) == (True, "safety_limit", 1)
    assert len(stored()) == 1000
    refused = problem(api.post(PATH, {"resume": body["resume"]}, format="json"), 429)
    assert (refused["limit"], refused["api_calls"], refused["result"]["resume"]) == ("safety_limit", 0, body["resume"])
    assert len(sandbox.requests) == 1
    assert balance(sandbox) == (13_001, 13_001)


def test_a_request_for_more_calls_than_are_free_sends_nothing(api: APIClient, sandbox: Sandbox) -> None:
    Consumer.objects.update(cap_per_operation=59)
    body = problem(api.post(PATH, {**MONTHS, "subjects": ["Art", "Music"]}, format="json"), 429)
    assert (body["limit"], body["asked"], body["free"], body["retry_at"]) == ("cap_per_operation", 60, 59, None)
    assert (body["result"]["months_processed"], body["result"]["quota_exhausted"]) == ([], True)
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ({"kind": "garbage"}, 502, "isbndb_failed"),
        ({"kind": "status", "status": 503}, 502, "isbndb_failed"),
        ({"kind": "status", "status": 500}, 502, "isbndb_failed"),
        ({"kind": "latency", "seconds": 60}, 504, "isbndb_timeout"),
    ],
    ids=["garbage", "failure", "failure as for a page too large", "no answer"],
)
@pytest.mark.slow
def test_when_isbndb_fails_the_answer_has_the_result_so_far_and_how_to_continue(
    api: APIClient, sandbox: Sandbox, settings, fault: dict, status: int, reason: str
) -> None:
    def fail_the_second(number: int) -> None:
        if number == 1 and reason == "isbndb_timeout":
            settings.ISBNDB_TIMEOUT_SECONDS = 1  # for the requests after this one
        if number == 2:
            sandbox.add_fault(**fault)

    on_request(sandbox, fail_the_second)
    body = problem(api.post(PATH, MONTH, format="json"), status)
    result = body["result"]
    assert (result["stopped_reason"], result["quota_exhausted"], result["pages_fetched"]) == (reason, False, 1)
    assert (result["months_processed"], result["enriched"]) == ([], Edition.objects.count())
    assert body["api_calls"] == body["quota"]["used"] == len(sandbox.requests)
    assert balance(sandbox) == (body["api_calls"], body["api_calls"])
    sandbox.clear_faults()
    settings.ISBNDB_TIMEOUT_SECONDS = 60
    rest = ask(api, resume=result["resume"])
    assert (rest["complete"], rest["api_calls"]) == (True, 1)


@pytest.mark.slow
def test_a_long_request_stops_at_the_time_limit_and_continues_with_its_token(
    api: APIClient, sandbox: Sandbox, monkeypatch
) -> None:
    monkeypatch.setattr("enrichment.api.listings.MAX_ANSWER_SECONDS", 0.0)
    wanted, answers = dict(MONTHS), 0
    while wanted:
        body = ask(api, **wanted)
        answers += 1
        assert body["pages_fetched"] == 1
        assert (body["stopped_reason"], body["quota_exhausted"]) == (None if body["complete"] else "time_limit", False)
        wanted = {"resume": body["resume"]} if body["resume"] else {}
    assert balance(sandbox) == (answers, answers) == (5, 5)
    assert sorted(zip(paths_asked(sandbox), pages_asked(sandbox), strict=True)) == [
        ("2023-12", (1, 1000)),
        ("2024-01", (1, 1000)),
        ("2024-01", (2, 1000)),
        ("2024-02", (1, 1000)),
        ("2024-02", (2, 1000)),
    ]


def test_without_a_key_or_a_database_nothing_is_sent(api: APIClient, sandbox: Sandbox) -> None:
    with database_moved(port=1):
        problem(api.post(PATH, MONTHS, format="json"), 503)
    Consumer.objects.update(active=False)
    problem(api.post(PATH, MONTHS, format="json"), 403)
    api.credentials()
    problem(api.post(PATH, MONTHS, format="json"), 401)
    assert sandbox.requests == []


NEXT_YEAR = str(timezone.now().year + 2)
BAD_BODIES: dict[str, tuple[object, list[str | None]]] = {
    "nothing": ({}, ["start_month", "end_month"]),
    "one month": ({"start_month": "2024-01"}, ["end_month"]),
    "reversed": ({"start_month": "2024-02", "end_month": "2024-01"}, ["end_month"]),
    "far future": ({"start_month": "2024-01", "end_month": f"{NEXT_YEAR}-01"}, ["end_month"]),
    "decades": ({"start_month": "1990-01", "end_month": "2000-01"}, ["end_month"]),
    "13th month": ({"start_month": "2024-13", "end_month": "2024-01"}, ["start_month"]),
    "a day": ({"start_month": "2024-01-01", "end_month": "2024-02"}, ["start_month"]),
    "one digit": ({"start_month": "2024-1", "end_month": "2024-02"}, ["start_month"]),
    "year 999": ({"start_month": "0999-01", "end_month": "2024-02"}, ["start_month"]),
    "a number": ({"start_month": 202401, "end_month": None}, ["start_month", "end_month"]),
    "no pages": ({**MONTHS, "max_pages_per_month": 0}, ["max_pages_per_month"]),
    "many pages": ({**MONTHS, "max_pages_per_month": 11}, ["max_pages_per_month"]),
    "a subject": ({**MONTHS, "subjects": "Art"}, ["subjects"]),
    "no word": ({**MONTHS, "subjects": ["Art", "/"]}, ["subjects.1"]),
    "many subjects": ({**MONTHS, "subjects": [[]] * 200_000}, ["subjects"]),
    "months x subjects": (
        {"start_month": "2015-01", "end_month": "2023-12", "subjects": ["Art", "Music", "Law", "Pets", "Sea", "War"]},
        ["subjects"],
    ),
    "no token": ({"resume": "x" * 200}, ["resume"]),
    "token and more": ({"resume": "x", "subjects": []}, ["subjects"]),
    "no object": ([], [None]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("body", "fields"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_input_is_refused_with_the_name_of_the_field(
    api_without_key_check: APIClient, body: object, fields: list[str | None]
) -> None:
    refused = problem(api_without_key_check.post(PATH, json.dumps(body), content_type="application/json"), 400)
    assert [error["field"] for error in refused["errors"]] == fields


def test_a_resume_token_belongs_to_its_consumer_and_expires(api: APIClient) -> None:
    wanted = Wanted(date(2024, 1, 1), date(2024, 1, 1), 1)
    place = {"begun": 1, "open": {}}  # nothing is missing
    assert ask(api, resume=resume_token(wanted, place, consumer="reader"))["api_calls"] == 0

    def refused(token: str) -> str:
        body = problem(api.post(PATH, {"resume": token}, format="json"), 400)
        return str(body["errors"][0]["detail"])

    assert "belongs to another consumer" in refused(resume_token(wanted, place, consumer="other"))
    with patch("enrichment.services.releases.TOKEN_LASTS", timedelta(days=-1)):
        old = resume_token(wanted, place, consumer="reader")
    assert "older than 30 days" in refused(old)
