"""`make chaos` for a minute: 10 kills, every outage, most moods, midnight."""

import subprocess
import sys
from pathlib import Path

import pytest

from alexandria.env import BASE_DIR


@pytest.mark.slow
@pytest.mark.no_cover
def test_after_a_minute_of_chaos_every_call_is_counted_every_job_has_ended_and_every_book_is_whole(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--seed", "149", "--kills", "10", "--seconds", "60", "--hurry"]
    ended = subprocess.run(
        [*command, "--folder", str(tmp_path / "run")], cwd=BASE_DIR, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-10_000:] + ended.stderr[-5_000:]
