"""Those who enrich a list of ISBNs get the books: with `"return": "books"`, and from the job."""

import csv
import io
import json
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from enrichment.api.jobs import InOrder
from enrichment.jobs.workers import run_job
from enrichment.models import Job, Miss
from quota.models import Consumer
from tests.fixtures import balance, known_isbns, problem, unknown_isbns

FIRST, SECOND = known_isbns(2)
[UNKNOWN] = unknown_isbns(1)
BATCH = "/api/enrich/batch-direct"
GIVEN = [f"{SECOND} (pbk.)", "439023483", UNKNOWN, FIRST, SECOND]


def test_the_answer_has_the_books_beside_the_counts(api: APIClient, sandbox: Sandbox) -> None:
    body = api.post(BATCH, {"isbns": GIVEN, "return": "books"}, format="json").json()
    assert (body["enriched"], body["not_found"], body["duplicates"], body["api_calls"]) == (2, 1, 1, 1)
    looked_up = api.post("/api/books/lookup", GIVEN, format="json").json()
    assert body["books"] == looked_up["books"]
    assert [item["state"] for item in body["books"]] == ["stored", "invalid", "unknown", "stored", "stored"]
    assert body["books"][0]["book"] == api.get(f"/api/books/{SECOND}").json()
    assert balance(sandbox) == (1, 1)


def test_calls_are_not_lost_when_the_books_cannot_be_read(api: APIClient, sandbox: Sandbox) -> None:
    with patch("enrichment.api.books.look_up", side_effect=OperationalError("gone")):
        response = api.post(BATCH, {"isbns": [FIRST], "return": "books"}, format="json")
    assert (response.status_code, response.json()["enriched"], response.json()["books"]) == (200, 1, None)


@pytest.fixture
def job(api: APIClient, sandbox: Sandbox) -> Job:
    """A job whose first two ISBNs are stored."""
    headers = {"Prefer": "respond-async"}
    response = api.post(BATCH, {"isbns": GIVEN, "return": "books"}, format="json", headers=headers)
    assert response.status_code == 202
    run_job()
    return Job.objects.get()


def books_of(api: APIClient, job: Job, query: str = "", accept: str = "application/json") -> Any:
    response = api.get(f"/api/jobs/{job.pk}/books{query}", headers={"Accept": accept})
    assert response.status_code == 200, response.content
    return response


def test_a_job_has_the_books_of_its_isbns_in_the_order_of_the_list(api: APIClient, job: Job) -> None:
    page = books_of(api, job).json()
    assert (page["next"], page["previous"]) == (None, None)
    assert page["results"] == api.post("/api/books/lookup", GIVEN, format="json").json()["books"]
    [only] = books_of(api, job, "?state=not_found").json()["results"]
    assert (only["isbn13"], only["state"], only["book"]) == (UNKNOWN, "unknown", None)


def test_every_form_has_pages(api: APIClient, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = books_of(api, job).json()["results"]
    monkeypatch.setattr(InOrder, "page_size", 3)
    first = books_of(api, job).json()
    assert first["results"] + api.get(first["next"]).json()["results"] == whole

    lines = books_of(api, job, accept="application/x-ndjson")
    assert lines.headers["Link"] == f'<{first["next"]}>; rel="next"'
    rest: Any = api.get(first["next"], headers={"Accept": "application/x-ndjson"})
    assert rest.headers["Link"].endswith('; rel="previous"')
    text = b"".join([*lines.streaming_content, *rest.streaming_content]).decode()
    assert [json.loads(line) for line in text.splitlines()] == whole

    table = b"".join(books_of(api, job, accept="text/csv").streaming_content).decode()
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [(row["input"], row["state"]) for row in rows] == [(item["input"], item["state"]) for item in whole[:3]]


def test_an_isbn_that_a_job_did_not_get_says_why(api: APIClient, job: Job) -> None:
    job.items.filter(isbn13=UNKNOWN).update(state="failed", reason="ISBNdb failed with status 500.")
    Miss.objects.all().delete()
    [item] = books_of(api, job, "?state=failed").json()["results"]
    assert (item["state"], item["reason"]) == ("not_asked", "ISBNdb failed with status 500.")


def test_an_error_is_a_problem_whatever_is_accepted(api: APIClient, job: Job) -> None:
    Job.objects.update(consumer=Consumer.objects.create(slug="other"))
    problem(api.get(f"/api/jobs/{job.pk}/books", headers={"Accept": "text/csv"}), 404)
    Job.objects.update(consumer=job.consumer)
    refused = api.get(f"/api/jobs/{job.pk}/books?state=x", headers={"Accept": "text/csv"})
    assert problem(refused, 400)["errors"][0]["field"] == "state"
