"""`manage.py demo`, as a newcomer runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from alexandria import embedded
from alexandria.management.commands.demo import Mismatch, expect

OURS = {"DATABASE_URL", "REDIS_URL", "ISBNDB_API_KEY", "ISBNDB_BASE_URL", "QUOTA_DAILY_LIMIT", "QUOTA_SAFETY_BUFFER"}


def test_the_demo_ends_by_itself_with_everything_as_it_should_be(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    demo = subprocess.run(
        [sys.executable, str(embedded.BASE_DIR / "manage.py"), "demo"],
        cwd=tmp_path,
        env=environment | {"ALEXANDRIA_DATA_DIR": str(tmp_path / "data"), "DEBUG": "on"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    for words in ("calls for the whole list: 1", "calls for asking again: 0", "HTTP 429", "ISBNdb counts 8 calls"):
        assert words in demo.stdout
    assert not list((tmp_path / "data").glob("demo-*"))


def test_a_figure_that_is_not_as_it_should_be_fails_the_demo() -> None:
    with pytest.raises(Mismatch, match="calls used: 7 instead of 8"):
        expect(Console(), "calls used", 7, 8)
