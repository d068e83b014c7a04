"""manage.py export_books: complete files only, in every format, to a file or a pipe."""

import csv
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from pymarc import MARCReader, parse_xml_to_array

from alexandria.env import BASE_DIR
from enrichment.exports.formats import COLUMNS
from enrichment.isbn.files import read_file
from enrichment.management.commands.export_books import moment
from enrichment.models import Edition
from enrichment.selectors import exports
from tests import processes
from tests.enrichment.exports.conftest import AT, ISBN, stored
from tests.rows import fill

Capture = pytest.CaptureFixture[bytes]
OTHER = "9780747532699"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "books"


@pytest.fixture
def books(db: None) -> None:
    stored(ISBN)
    stored(OTHER, title="Émile", names=(), updated_at=AT + timedelta(days=1))


def export(form: str, file: Path, *options: str) -> bytes:
    call_command("export_books", "--format", form, "--output", str(file), *options)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    return file.read_bytes()


def isbns_of_csv(content: bytes) -> list[str]:
    return [row["isbn13"] for row in csv.DictReader(StringIO(content.decode()))]


@pytest.mark.usefixtures("books")
def test_each_format_has_every_book_by_isbn(file: Path, capfdbinary: Capture) -> None:
    rows = list(csv.DictReader(StringIO(export("csv", file).decode())))
    assert [(row["isbn13"], row["title"]) for row in rows] == [(ISBN, "Project Hail Mary"), (OTHER, "Émile")]
    assert list(rows[0]) == COLUMNS
    assert (rows[0]["other_isbns"], read_file(file.read_bytes()).values) == ("9780593135211", [ISBN, OTHER])
    lines = export("ndjson", file).decode().splitlines()
    assert [json.loads(line)["isbn13"] for line in lines] == [ISBN, OTHER]
    records = [record["001"].data for record in MARCReader(BytesIO(export("marc", file))) if record]
    assert records == [ISBN, OTHER]
    assert [record["001"].data for record in parse_xml_to_array(BytesIO(export("marcxml", file)))] == [ISBN, OTHER]
    assert capfdbinary.readouterr().err.decode().splitlines() == [f"2 books written to {file}."] * 4


@pytest.mark.usefixtures("books")
def test_since_exports_what_is_new_or_has_changed(file: Path) -> None:
    assert isbns_of_csv(export("csv", file, "--since", "2026-05-01")) == [ISBN, OTHER]
    assert isbns_of_csv(export("csv", file, "--since", "2026-05-01T10:01Z")) == [OTHER]
    assert isbns_of_csv(export("csv", file, "--since", "2026-05-03")) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
        ("2026-05-01T12:30Z", datetime(2026, 5, 1, 12, 30, tzinfo=UTC)),
        ("2026-05-01T12:30+02:00", datetime(2026, 5, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_a_date_is_in_utc_unless_it_says_otherwise(text: str, expected: datetime) -> None:
    assert moment(text).isoformat() == expected.isoformat()


def test_a_long_export_is_read_in_batches(books: None, file: Path) -> None:
    fill(Edition, 28)
    batches = patch.multiple(exports, ISBNS_BATCH=20, BOOKS_BATCH=10)
    with batches, CaptureQueriesContext(connection) as queries:
        found = isbns_of_csv(export("csv", file))
    assert found == sorted(Edition.objects.values_list("isbn13", flat=True))
    assert len(found) == 30
    of_editions = [query["sql"] for query in queries if 'FROM "enrichment_edition"' in query["sql"]]
    assert sum(" LIMIT 20" in query for query in of_editions) == 2
    assert len(of_editions) == 2 + 3
    assert not any('"raw"' in query for query in of_editions)


def lose_the_database() -> None:
    raise OperationalError("server closed the connection")


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("end", "error", "message"),
    [
        (
            lose_the_database,
            CommandError,
            "does not answer, so the export is not complete: server closed the connection",
        ),
        (terminate, SystemExit, "143"),
    ],
)
@pytest.mark.usefixtures("books")
def test_a_broken_export_leaves_the_file_of_before(
    file: Path, end: Callable[[], None], error: type[BaseException], message: str
) -> None:
    whole = export("ndjson", file)

    def one_book(*_: Any) -> Iterator[Edition]:
        yield Edition.objects.select_related("work").get(pk=ISBN)
        end()

    with (
        patch("enrichment.management.commands.export_books.exported_books", one_book),
        pytest.raises(error, match=message),
    ):
        export("ndjson", file)
    assert file.read_bytes() == whole
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.usefixtures("books")
def test_a_link_stays_a_link_and_a_device_a_device(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    call_command("export_books", "--format", "csv", "--output", str(link))
    assert link.is_symlink()
    assert isbns_of_csv(file.read_bytes()) == [ISBN, OTHER]
    call_command("export_books", "--format", "csv", "--output", "/dev/null")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--output", "/no/such/folder/books.csv"), "/no/such/folder/books.csv: No such file or directory."),
        (("--since", "May"), "'May' is not a date. Give one such as 2026-05-01."),
    ],
)
def test_what_cannot_be_done_is_said(options: tuple[str, ...], message: str, db: None) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("export_books", "--format", "csv", *options)


def command(*options: str) -> list[str]:
    return [sys.executable, str(BASE_DIR / "manage.py"), "export_books", "--format", "ndjson", *options]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_pipe_gets_the_books_and_a_terminal_a_progress_bar(books: None) -> None:
    screen, terminal = pty.openpty()
    environment = processes.environment() | {"TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(command(), env=environment, stdout=subprocess.PIPE, stderr=terminal, check=True)
    os.close(terminal)
    said = os.read(screen, 100_000).decode()
    os.close(screen)
    assert [json.loads(line)["isbn13"] for line in done.stdout.splitlines()] == [ISBN, OTHER]
    assert "100%" in said
    assert "2 books written to standard output." in said


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_reader_that_is_gone_is_no_traceback(books: None) -> None:
    fill(Edition, 2_000)
    piped = subprocess.PIPE
    with subprocess.Popen(command(), env=processes.environment(), stdout=piped, stderr=piped) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read().decode() == "CommandError: The reader of the output is gone.\n"
    assert running.returncode == 141
