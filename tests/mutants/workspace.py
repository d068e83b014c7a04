"""A copy of the code in which a fault is tried: a folder, a database and a number of Redis of its own."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from alexandria.env import BASE_DIR
from tests.conftest import numbered_redis
from tests.mutants.faults import TESTS, Fault

FUNCTIONS = "quota/sql/functions.sql"
MAX_SECONDS = 600
"""The tests of a fault that take longer hang: the fault is noticed."""
MAX_SECONDS_OF_SUITE = 7200

KNOWS_THE_FILE = "tests/quota/test_functions.py::test_a_change_of_the_file_comes_with_a_migration_that_runs_it"
"""Compares the SQL file with a checksum. It would notice every fault there, and none of them by what it does."""

PASSED, FAILED = 0, 1
_FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What the tests say. `noticed_by`: the first test that failed; "" if none did.

    `trouble`: why the tests did not run; then they say nothing.
    """

    noticed_by: str = ""
    trouble: str = ""


@dataclass
class Workspace:
    """`number`: counts from 1. The folder is made by `copy_code`, and the database by the first tests."""

    number: int
    folder: Path
    _process: subprocess.Popen[str] | None = field(default=None, init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)

    @property
    def name(self) -> str:
        """Of the database, before pytest-django puts `test_` in front."""
        return f"mutants_{os.getpid()}_{self.number}"

    def copy_code(self) -> None:
        """Copies what git has or would add, as it is in the work tree."""
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=BASE_DIR, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            if (BASE_DIR / name).is_file() and not (BASE_DIR / name).is_symlink():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(BASE_DIR / name, self.folder / name)
        (self.folder / ".venv").symlink_to(sys.prefix)

    def run(self, tests: Collection[str], fault: Fault | None = None) -> Verdict:
        """Runs the tests in the copy, with the fault in it, until the first one fails."""
        with self._fault_in(fault):
            self._renew_functions()
            return self._run_tests("--reuse-db", *tests, seconds=MAX_SECONDS)

    def run_suite(self, fault: Fault, *, workers: int) -> Verdict:
        """Runs all tests in so many processes, each with a database of its own, until the first one fails."""
        with self._fault_in(fault):
            options = ("-n", str(workers), "--dist", "worksteal", "--ignore", f"{TESTS}/mutants")
            return self._run_tests(*options, TESTS, seconds=MAX_SECONDS_OF_SUITE)

    def stop(self) -> None:
        """Ends the tests that run."""
        self._stopping.set()
        self._kill()

    def drop_database(self) -> None:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as session:
            name = sql.Identifier(f"test_{self.name}")
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def _run_tests(self, *arguments: str, seconds: int) -> Verdict:
        if self._stopping.is_set():
            return Verdict(trouble="interrupted")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-x", "--deselect", KNOWS_THE_FILE, *arguments],
            cwd=self.folder,
            env=os.environ | {"DATABASE_URL": self._database_url(self.name), "REDIS_URL": numbered_redis(self.number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._kill()
            return Verdict(noticed_by=f"tests that do not end within {seconds} s")
        if self._process.returncode == PASSED:
            return Verdict()
        if self._process.returncode == FAILED and (failure := _FAILURE.search(output)):
            return Verdict(noticed_by=failure[1])
        return Verdict(trouble=f"pytest ended with {self._process.returncode}:\n{output[-2000:]}")

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @contextmanager
    def _fault_in(self, fault: Fault | None) -> Iterator[None]:
        if fault is None:
            yield
            return
        text = fault.put_into(self.folder)
        try:
            yield
        finally:
            self._write(fault.file, text)

    def _write(self, file: str, text: str) -> None:
        path = self.folder / file
        path.write_text(text)
        # Python takes what it has compiled for the same if size and second are: the next fault may come so soon.
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)

    def _renew_functions(self) -> None:
        """Gives the database the SQL functions of the copy: no migration runs them again. A new database has them."""
        try:
            with psycopg.connect(self._database_url(f"test_{self.name}"), autocommit=True) as session:
                session.execute((self.folder / FUNCTIONS).read_bytes())
        except psycopg.OperationalError:
            return

    def _database_url(self, name: str) -> str:
        return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
