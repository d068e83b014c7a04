"""`manage.py demo`, run as a new user runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from rich.console import Console

from alexandria.development.stack import Stack
from alexandria.env import BASE_DIR
from alexandria.management.commands.demo import Demo, Mismatch, expect
from alexandria.wsgi import application
from quota.selectors.status import get_status

# A configuration that the demo must ignore. Nothing listens on port 1, so a demo that used it would fail.
CONFIGURED = {
    "DATABASE_URL": "postgres://user:password@127.0.0.1:1/production",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "ISBNDB_API_KEY": "a-key-that-costs-money",
    "ISBNDB_BASE_URL": "http://127.0.0.1:1",
    "ISBNDB_BATCH_SIZE": "100",
    "ISBNDB_BATCH_PRICE": "measure",
    "QUOTA_DAILY_LIMIT": "15000",
    "QUOTA_ENFORCEMENT": "observe",
    "ALLOWED_HOSTS": "books.example",
    "PORT": "1",
}


@pytest.mark.slow
def test_the_demo_succeeds_and_ignores_the_configuration(tmp_path: Path) -> None:
    demo = subprocess.run(
        [sys.executable, str(BASE_DIR / "manage.py"), "demo"],
        cwd=tmp_path,
        env=os.environ | CONFIGURED | {"ALEXANDRIA_DATA_DIR": str(tmp_path / "data"), "DEBUG": "on"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    said = " ".join(demo.stdout.split())
    refusal = demo.stdout.partition("HTTP 429")[2].partition("✓")[0].strip().splitlines()
    assert 8 <= len(refusal) <= 12, "the interesting lines alone"
    for words in (
        "calls for the whole list: 1\n",
        "calls for the whole list: 225\n",
        "calls for the second request: 0",
        "HTTP 429",
        "Starting postgres and redis …",
        "A limit this small is a toy.",
        "ISBNdb does not know. Alexandria remembers that",
        "ISBNdb counts 232 calls, we count 232.",
    ):
        assert words.strip() in said
    table = [line for line in demo.stdout.splitlines() if re.match(r"│ (request|isbn) ", line)]
    assert [re.findall(r"\d+", line) for line in table] == [["225", "226", "226", "2"], ["1", "227", "227", "451"]]
    figures = next(line for line in demo.stdout.splitlines() if "281" in re.findall(r"\d+", line) and "│" in line)
    assert re.findall(r"\d+", figures)[:4] == ["281", "32", "24", "225"]
    assert "postgres://" not in demo.stdout + demo.stderr
    assert not list((tmp_path / "data").glob("demo-*"))


def test_the_demo_spends_no_call_of_another_stack(key: str) -> None:
    stack = Stack("http://testserver", {}, [])
    headers = {"Authorization": f"Api-Key {key}", "Host": "localhost"}
    transport = httpx2.WSGITransport(app=application)
    with (
        httpx2.Client(base_url=stack.base_url, headers=headers, transport=transport) as client,
        pytest.raises(Mismatch, match="not the demo's stack: safety limit 13000, not 232"),
    ):
        Demo(Console(), stack, client).by_the_isbn()
    assert get_status().used == 0


def test_an_unexpected_result_fails_the_demo() -> None:
    with pytest.raises(Mismatch, match="calls used: 7 instead of 8"):
        expect(Console(), "calls used", 7, 8)
