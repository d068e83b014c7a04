"""`make chaos` for a minute: 10 kills, every outage, most moods, midnight."""

import os
import subprocess
import sys
from tempfile import TemporaryDirectory

import pytest

from alexandria.env import BASE_DIR


@pytest.mark.slow
@pytest.mark.no_cover
def test_after_a_minute_of_chaos_every_call_is_counted_every_job_has_ended_and_every_book_is_whole() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--seed", "149", "--kills", "10", "--seconds", "60", "--hurry"]
    # Not in pytest's folder: another run of pytest closes it for PostgreSQL's user, and PostgreSQL does not come back.
    with TemporaryDirectory(dir=os.environ["ALEXANDRIA_DATA_DIR"], prefix="chaos") as folder:
        ended = subprocess.run(
            [*command, "--folder", f"{folder}/run"],
            cwd=BASE_DIR,
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,  # a run that hangs fails here
        )
    assert ended.returncode == 0, ended.stdout[-10_000:] + ended.stderr[-5_000:]
