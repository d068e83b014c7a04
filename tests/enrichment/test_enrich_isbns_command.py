"""manage.py enrich_isbns, and that API, admin, queue and command read a file alike."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from enrichment.jobs.workers import run_job
from enrichment.models import Edition, QueuedIsbn
from enrichment.services.enrich import enrich_isbns
from quota.models import Call, Consumer
from quota.selectors.status import get_status
from tests.enrichment.isbn.test_files import COLUMNS, EXPORTS
from tests.fixtures import balance, database_moved, known_isbns, unknown_isbns

Capture = pytest.CaptureFixture[str]

KNOWN, UNKNOWN = known_isbns(6), unknown_isbns(1)

pytestmark = pytest.mark.usefixtures("consumer", "sandbox")


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A file with six known ISBNs, of which one is fresh, an unknown one, a duplicate and two mistakes."""
    enrich_isbns(KNOWN[:1], consumer="reader")
    path = tmp_path / "books.csv"
    cells = [*KNOWN, *UNKNOWN, KNOWN[0], "9780441172718", "=1+2"]
    path.write_text("Title;ISBN\n" + "\n".join(f'"Book; or not";{cell}' for cell in cells))
    return path


def exit_code(*arguments: object) -> int:
    try:
        call_command("enrich_isbns", *map(str, arguments))
    except CommandError as error:  # a terminal shows it
        print(error, file=sys.stderr)
        return error.returncode
    return 0


def figures(capsys: Capture, *arguments: object) -> dict[str, Any]:
    assert exit_code(*arguments, "--json") == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


COUNTS = {"requested": 10, "valid": 7, "duplicates": 1, "invalid": 2}


def test_a_file_is_enriched_and_each_value_has_an_outcome(
    books: Path, sandbox: Sandbox, capsys: Capture, tmp_path: Path
) -> None:
    items = tmp_path / "items.csv"
    shown = figures(capsys, books, "--output", items)
    assert {name: shown[name] for name in COUNTS} == COUNTS
    assert (shown["enriched"], shown["already_fresh"], shown["not_found"], shown["api_calls"]) == (5, 1, 1, 1)
    assert shown["reasons"] == {"wrong check digit": 1, "not an ISBN": 1}
    assert Edition.objects.count() == 6
    assert {call.consumer.slug for call in Call.objects.all()} == {"reader", "operator"}
    assert balance(sandbox) == (2, 2)
    with items.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == [
        *["already_fresh", *["enriched"] * 5, "not_found", "duplicate", "invalid", "invalid"]
    ]
    assert (rows[8]["suggestion"], rows[9]["input"]) == ("9780441172719", "'=1+2")
    again = figures(capsys, items, "--dry-run")
    assert (again["program"], {name: again[name] for name in COUNTS}) == ("Alexandria", COUNTS)


def test_a_dry_run_says_what_it_would_cost_and_sends_nothing(books: Path, sandbox: Sandbox, capsys: Capture) -> None:
    shown = figures(capsys, books, "--dry-run", "--consumer", "reader")
    assert {name: shown[name] for name in COUNTS} == COUNTS
    assert (shown["already_fresh"], shown["to_request"], shown["calls"], shown["free_calls"]) == (1, 6, 1, 12_999)
    assert figures(capsys, books, "--dry-run", "--refresh")["to_request"] == 7
    assert exit_code(books, "--dry-run") == 0
    assert exit_code(books, "--dry-run", "--output", "items.csv") == 1, "nothing became of any value"
    assert "'9780441172718' is invalid: wrong check digit. Is it 9780441172719?" in capsys.readouterr().out
    assert sandbox.spent == 1


def test_a_dry_run_says_when_it_would_end(books: Path, sandbox: Sandbox, capsys: Capture, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 2  # 3 batches
    paid = Consumer.objects.create(slug="paid", daily_budget=2)
    tomorrow = get_status().reset_at.date()
    assert figures(capsys, books, "--dry-run", "--consumer", "paid")["ends_at"].startswith(f"{tomorrow}T00:00")
    assert exit_code(books, "--dry-run", "--consumer", "paid") == 0
    assert f"End: {tomorrow} 00:00 UTC, if nobody else spends calls." in capsys.readouterr().out
    Consumer.objects.filter(pk=paid.pk).update(daily_budget=0)
    assert figures(capsys, books, "--dry-run", "--consumer", "paid")["ends_at"] is None
    assert exit_code(books, "--dry-run", "--consumer", "paid") == 0
    assert "End: never; the limits of this consumer leave it no call." in capsys.readouterr().out


def test_a_file_is_queued_from_standard_input(
    books: Path, sandbox: Sandbox, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(books.read_bytes())))
    shown = figures(capsys, "-", "--queue", "--consumer", "reader")
    assert {name: shown[name] for name in COUNTS} == COUNTS
    assert (shown["queued"], shown["already_fresh"], shown["api_calls"]) == (6, 1, 0)
    assert QueuedIsbn.objects.count() == 6
    assert sandbox.spent == 1


def test_when_the_quota_ends_what_it_paid_for_is_done_and_the_exit_code_says_so(
    books: Path, sandbox: Sandbox, capsys: Capture, settings, tmp_path: Path
) -> None:
    settings.ISBNDB_BATCH_SIZE = 2
    Consumer.objects.create(slug="operator", daily_budget=2)
    assert exit_code(books, "--json", "--output", tmp_path / "items.csv") == 2
    said = capsys.readouterr()
    shown = json.loads(said.out)
    assert (shown["api_calls"], shown["already_fresh"], shown["enriched"], shown["failed"]) == (2, 1, 3, 3)
    assert "budget" in said.err
    assert "not asked for, because the list ended early" in (tmp_path / "items.csv").read_text()


def test_a_failure_of_isbndb_is_told(books: Path, sandbox: Sandbox, capsys: Capture) -> None:
    sandbox.add_fault("status", status=500, times=9)
    assert exit_code(books) == 1
    assert "failed: 6" in capsys.readouterr().out


def test_a_full_queue_is_told(books: Path, settings, capsys: Capture) -> None:
    settings.MAX_QUEUED_PER_CONSUMER = 2
    assert exit_code(books, "--queue") == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["no/such/file"], "no/such/file: No such file or directory."),
        (["{books}", "--consumer", "nobody"], "There is no consumer 'nobody'."),
        (["{empty}"], "there is no ISBN in it"),
        (["{books}", "--queue", "--refresh"], "not allowed with argument"),
    ],
    ids=["no file", "no consumer", "no ISBN", "both ways"],
)
def test_wrong_usage_is_explained(
    books: Path, tmp_path: Path, sandbox: Sandbox, capsys: Capture, arguments: list[str], why: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    spent = sandbox.spent
    assert exit_code(*(part.format(books=books, empty=tmp_path / "empty") for part in arguments)) == 1
    assert why in capsys.readouterr().err
    assert sandbox.spent == spent


def test_without_postgresql_it_says_so(books: Path, capsys: Capture) -> None:
    with database_moved(port=1):
        assert exit_code(books) == 1
    assert "out of reach" in capsys.readouterr().err


def counts_of(answer: dict[str, Any]) -> dict[str, int]:
    invalid = answer["invalid"]
    return {name: answer[name] for name in ("requested", "valid", "duplicates")} | {
        "invalid": len(invalid) if isinstance(invalid, list) else invalid
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", COLUMNS)
def test_api_job_queue_admin_and_command_count_an_export_alike(
    name: str, api: APIClient, admin_client: Client, capsys: Capture
) -> None:
    data = (EXPORTS / name).read_bytes()
    kind = "text/tab-separated-values" if name.endswith("tsv") else "text/csv"
    batch, queue = "/api/enrich/batch-direct", "/api/enrich/queue"
    command = figures(capsys, EXPORTS / name, "--dry-run")
    answers = [
        api.post(f"{queue}?priority=low&return=items", data, content_type=kind).json(),
        api.post(f"{batch}?source=shelf&refresh=false&return=items", data, content_type=kind).json(),
    ]
    for answer in answers:
        assert counts_of(answer) == counts_of(command), answer
        assert answer["notes"] == command["notes"]
        assert [item["state"] in {"duplicate", "invalid"} for item in answer["items"]].count(False) == answer["valid"]
    assert [(item["input"], item["isbn13"]) for item in answers[0]["items"]] == [
        (item["input"], item["isbn13"]) for item in answers[1]["items"]
    ]

    location = api.post(batch, data, content_type=kind, headers={"Prefer": "respond-async"})["Location"]
    run_job()
    assert counts_of(api.get(location).json()["result"]) == counts_of(command)
    items = api.get(f"{location}/items").json()["results"]
    for wanted in ("input", "isbn13", "suggestion"):
        assert [item[wanted] for item in items] == [item[wanted] for item in answers[1]["items"]]

    file = SimpleUploadedFile(name, data)
    page = admin_client.post(reverse("admin:check_isbns"), {"isbns": "", "file": file}, follow=True)
    given = page.context["plan"].given
    assert counts_of(command) == {
        "requested": given.requested,
        "valid": len(given.valid),
        "duplicates": given.duplicates,
        "invalid": len(given.invalid),
    }
    assert all(note.split(" ")[0] in page.text for note in command["notes"])
    assert Consumer.objects.filter(slug="operator").exists()
