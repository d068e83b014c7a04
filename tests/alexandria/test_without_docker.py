"""Follows docs/deploy.md without Docker, from the role in PostgreSQL to a check through nginx, and to a restore."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg
import pytest
import trustme

from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR
from alexandria.management.commands.serve import PROCESSES
from tests.alexandria.serving import (
    NGINX,
    copy_what_runs,
    is_listening,
    lines_in_docs,
    nginx_configuration,
    until,
    unused_port,
)
from tests.alexandria.test_backup import PROGRAMS
from tests.tls import ca, ca_file

__all__ = ["ca", "ca_file"]

UNITS = BASE_DIR / "docs" / "systemd"
HOME = "/srv/alexandria"
DATABASES = ("alexandria", "alexandria_restored")
SECONDS_TO_END = 60
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in /srv/alexandria."""
    folder = tmp_path_factory.mktemp("srv")
    copy_what_runs(folder)
    (folder / "docs").mkdir()
    shutil.copy(BASE_DIR / "docs" / "create_database.sql", folder / "docs")
    (folder / "venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture
def postgres(db: None) -> Iterator[dict[str, str]]:
    """The environment in which psql is the user postgres. The new role and its databases go at the end."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    host = parse_qs(parts.query).get("host", [parts.hostname or ""])[0]
    who = {"PGUSER": unquote(parts.username or ""), "PGPASSWORD": unquote(parts.password or "")}
    drop_everything()  # a run that was killed can have left it
    yield {"PGHOST": host, "PGPORT": str(parts.port or 5432), "PGDATABASE": "postgres"} | who
    drop_everything()


def drop_everything() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as session:
        for name in DATABASES:
            session.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        session.execute("DROP ROLE IF EXISTS alexandria")


def follow(lines: str, folder: Path, variables: dict[str, str], *, may_fail: bool = False) -> str:
    """Runs lines of the page with nothing but these variables, as a new shell does. Returns what they print."""
    path = os.pathsep.join([str(folder / "bin"), str(PROGRAMS), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-ec", lines],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder)} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert may_fail or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def unit(name: str) -> dict[str, list[str]]:
    """The settings of a unit of systemd."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            found.setdefault(line.partition("=")[0], []).append(line.partition("=")[2])
    return found


def start(name: str, folder: Path) -> "subprocess.Popen[bytes]":
    """What systemd starts for this process."""
    service = unit("alexandria@.service")
    [command], [variable] = service["ExecStart"], service["Environment"]
    metrics = {variable.partition("=")[0]: str(folder / "run")}
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            command.replace(HOME, str(folder)).replace("%i", name).split(),
            cwd=folder,
            env={"PATH": os.defpath} | metrics,
            stdout=log,
            stderr=log,
        )


@pytest.mark.skipif(NGINX is None, reason="nginx is missing: `make nginx` installs it")
def test_the_page_leads_from_nothing_to_a_service_that_passes_smoke_and_can_be_restored(
    checkout: Path, postgres: dict[str, str], ca: trustme.CA, ca_file: Path
) -> None:
    web, tls = unused_port(), unused_port()
    follow(lines_in_docs("sh role"), checkout, postgres | {"PASSWORD": "its-password"})
    shown = [line.strip().partition("=")[0] for line in lines_in_docs("env").splitlines()]
    url = f"postgres://alexandria:its-password@:{postgres['PGPORT']}/alexandria?host={postgres['PGHOST']}"
    with ExitStack() as stack:
        isbndb = stack.enter_context(Sandbox(max_rps=None))
        values = {
            "SECRET_KEY": "of-this-test-" * 5,
            "ALLOWED_HOSTS": "localhost",
            "CSRF_TRUSTED_ORIGINS": f"https://localhost:{tls}",
            "TRUSTED_PROXIES": "127.0.0.1",
            "DATABASE_URL": url,
            "REDIS_URL": os.environ["REDIS_URL"],
            "ISBNDB_API_KEY": isbndb.key,
            "ISBNDB_BASE_URL": isbndb.url,
            "ANSWERS_DIR": str(checkout / "answers"),
        }
        assert shown == list(values)
        more = {"PORT": str(web), "WEB_CONCURRENCY": "1", "WORKER_CONCURRENCY": "1", "JOBS_CONCURRENCY": "1"}
        (checkout / ".env").write_text("".join(f"{name}={value}\n" for name, value in (values | more).items()))

        steps = lines_in_docs("sh first-steps").replace("createsuperuser", "createsuperuser --no-input")
        steps = steps.replace("collectstatic", "collectstatic --dry-run")  # compressing takes a minute
        key = follow(steps, checkout, {"DJANGO_SUPERUSER_PASSWORD": "a-long-passphrase"}).splitlines()[-1]
        running = [start(name, checkout) for name in PROCESSES]
        stack.callback(lambda: [process.wait(SECONDS_TO_END) for process in running])
        stack.callback(lambda: [process.terminate() for process in running])
        configuration = nginx_configuration(checkout, ca, port=tls, web=web)
        proxy = stack.enter_context(subprocess.Popen([str(NGINX), "-c", str(configuration), "-p", str(checkout)]))
        stack.callback(proxy.terminate)
        until(lambda: is_listening(tls) and is_listening(web))

        refused = follow(
            "venv/bin/python manage.py create_api_key smoke --consumer smoke-refused", checkout, {}
        ).splitlines()[-1]
        check = f"venv/bin/python manage.py smoke --server https://localhost:{tls} --json"
        keys = {"ALEXANDRIA_API_KEY": key, "ALEXANDRIA_REFUSED_KEY": refused, "SSL_CERT_FILE": str(ca_file)}
        found = json.loads(follow(check, checkout, keys, may_fail=True))
        assert [each for each in found if each["outcome"] == "failed"] == [], (checkout / "web.log").read_text()
        assert len(found) == 7
        assert [process.poll() for process in running] == [None] * len(PROCESSES)

    manage = checkout / "bin" / "manage.py"
    manage.parent.mkdir()
    manage.write_text(f'#!/bin/sh\ncd {checkout}; exec venv/bin/python manage.py "$@"\n')
    manage.chmod(0o755)
    restored = url.replace("/alexandria?", "/alexandria_restored?")
    follow(lines_in_docs("sh backup"), checkout, {"DATABASE_URL": url})
    follow(lines_in_docs("sh restore-database"), checkout, postgres)
    said = follow(lines_in_docs("sh restore"), checkout, {"RESTORED_URL": restored})
    assert "The ledger agrees with its rows." in said


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is missing")
def test_systemd_accepts_the_units(checkout: Path, tmp_path: Path) -> None:
    for path in UNITS.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace(HOME, str(checkout)))
    for name in PROCESSES:
        (tmp_path / f"alexandria@{name}.service").symlink_to(tmp_path / "alexandria@.service")
    names = [str(tmp_path / name) for name in ("alexandria.target", "alexandria@web.service")]
    verified = subprocess.run(
        ["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False, env=os.environ
    )
    ours = [line for line in verified.stderr.splitlines() if "alexandria" in line]
    assert (verified.returncode, ours) == (0, [])


def test_paid_answers_are_kept_in_the_only_folder_that_survives_a_boot() -> None:
    service = unit("alexandria@.service")
    [folder] = service["StateDirectory"]
    [answers] = re.findall(r"^\s*ANSWERS_DIR=(.*)$", lines_in_docs("env"), re.MULTILINE)
    assert service["ProtectSystem"] == ["strict"]
    assert Path(answers).parent == Path("/var/lib", folder)


def test_the_target_wants_every_process_and_a_stop_reaches_only_its_main_process() -> None:
    wanted = " ".join(unit("alexandria.target")["Wants"])
    assert re.findall(r"alexandria@(\w+)\.service", wanted) == list(PROCESSES)
    assert unit("alexandria@.service")["KillMode"] == ["mixed"]
