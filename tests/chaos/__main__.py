"""`make chaos SEED=`: the real service under load, while everything in and around it breaks; then the verdict.

PostgreSQL, Redis, gunicorn, workers, beat and a bulk harvest are processes of this run. ISBNdb is the sandbox. A plan
(plan.py) kills, freezes and empties them, and gives ISBNdb its moods. Then the load stops, and everything has to come
to rest by itself. The exit code is 1 if something is wrong.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import django

from alexandria.development.embedded import servers
from alexandria.development.embedded.files import try_lock
from alexandria.development.process_reaper import ProcessReaper
from alexandria.env import BASE_DIR
from tests import environment
from tests.chaos.plan import TIMEOUT_SECONDS, Plan, make_plan

SECONDS_OF_A_KILL = 4.0
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "alexandria.settings",
    "DEBUG": "on",
    "SECRET_KEY": "only-for-the-chaos-" * 4,
    "ISBNDB_API_KEY": "sandbox-key",
    "ISBNDB_BATCH_PRICE": "isbn",
    "ISBNDB_BATCH_SIZE": "10",
    "ISBNDB_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
    "QUOTA_DAILY_LIMIT": "1000000",
    "QUOTA_MAX_RPS": "8",
    "API_REQUESTS_PER_MINUTE": "0",
    "BIND": "127.0.0.1",
    "PYTHONUNBUFFERED": "1",
}


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    options.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="the same seed, the same plan")
    options.add_argument("--kills", type=int, default=300, help="kills of our own processes (%(default)s)")
    options.add_argument("--seconds", type=float, help=f"how long ({SECONDS_OF_A_KILL:g} seconds for each kill)")
    options.add_argument("--patience", type=float, default=600, help="seconds until everything must be at rest")
    options.add_argument("--hurry", action="store_true", help="after the load, set the clock beyond every lease")
    options.add_argument("--folder", type=Path, help="for data and logs; emptied first (.data/chaos/SEED)")
    given = options.parse_args()
    plan = make_plan(given.seed, kills=given.kills, seconds=given.seconds or given.kills * SECONDS_OF_A_KILL)
    folder = (given.folder or BASE_DIR / ".data" / "chaos" / str(given.seed)).resolve()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run(plan, folder, patience=given.patience, hurry=given.hurry)


def run(plan: Plan, folder: Path, *, patience: float, hurry: bool) -> int:
    """Starts the servers in the folder, and leaves no process behind, however the run ends."""
    servers.private_folder(folder)
    lock = try_lock(folder.with_name(f"{folder.name}.lock"))
    if lock is None:
        sys.exit(f"Another run uses {folder}.")
    servers.stop(folder=folder)
    shutil.rmtree(folder)
    os.environ.update(environment.documented() | SETTINGS | {"ALEXANDRIA_DATA_DIR": str(folder)})
    reaper = ProcessReaper(folder, tuple(servers.VARIABLES), lock)
    try:
        servers.start(folder=folder)
        os.environ |= {"DATABASE_URL": servers.database_url(folder), "REDIS_URL": servers.redis_url(folder)}
        django.setup()
        from tests.chaos.run import Run

        return Run(plan, folder, reaper.watch, patience=patience, hurry=hurry).run()
    finally:
        servers.stop(folder=folder)
        reaper.dismiss()
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main())
