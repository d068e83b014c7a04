"""Settings come from the environment. A value that is not valid stops the start, and the message names the setting."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from alexandria import env
from alexandria.env import BASE_DIR

SETTINGS = BASE_DIR / "alexandria" / "settings.py"
ENV_EXAMPLE = BASE_DIR / ".env.example"
LoadSettings = Callable[..., dict[str, Any]]


@pytest.fixture
def load_settings(monkeypatch: pytest.MonkeyPatch) -> LoadSettings:
    """Runs settings.py again with the given variables."""

    def load(**variables: str) -> dict[str, Any]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(SETTINGS))

    return load


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DEBUG", "maybe"),
        ("TRUST_PROXY_HEADERS", "on"),
        ("TRUSTED_PROXIES", "nginx"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("CSRF_TRUSTED_ORIGINS", "https://books.example,books.example"),
        ("CORS_ALLOWED_ORIGINS", "https://books.example,books.example"),
        ("CORS_ALLOWED_ORIGINS", "https://books.example/"),
        ("CORS_ALLOWED_ORIGINS", "https://*.example"),
        ("CORS_ALLOWED_ORIGINS", "*"),
        ("DATABASE_URL", "mysql://user@localhost/books"),
        ("DATABASE_URL", "sqlite:///books.db"),
        ("DATABASE_URL", "books"),
        ("DATABASE_URL", "postgres://"),
        ("DATABASE_URL", "postgres://user:password@db.example"),
        ("DATABASE_URL", "postgres://user:password@db.example:many/books"),
        ("DATABASE_URL", "postgresql://user:pass#word@db.example/books"),
        ("DATABASE_URL", "postgis://user:password@db.example/books"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://redis.example:many/0"),
        ("REDIS_URL", "unix://"),
        ("ALLOWED_HOSTS", "books.example,https://books.example"),
        ("ALLOWED_HOSTS", "books.example:8000"),
        ("ALLOWED_HOSTS", "books.example/api"),
        ("ALLOWED_HOSTS", "books.example other.example"),
        ("ISBNDB_API_KEY", "two words"),
        ("ISBNDB_API_KEY", "line\nbreak"),
        ("ISBNDB_BASE_URL", "api2.isbndb.com"),
        ("ISBNDB_BASE_URL", "ftp://api2.isbndb.com"),
        ("ISBNDB_BASE_URL", "https://api2.isbndb.com?key=1"),
        ("ISBNDB_BASE_URL", "https://user:password@api2.isbndb.com"),
        ("ISBNDB_BATCH_SIZE", "0"),
        ("ISBNDB_BATCH_SIZE", "1001"),
        ("ISBNDB_BATCH_SIZE", "many"),
        ("ISBNDB_TIMEOUT_SECONDS", "0"),
        ("ISBNDB_TIMEOUT_SECONDS", "2.5"),
        ("EDITION_FRESH_DAYS", "-1"),
        ("MISS_REMEMBER_DAYS", "3651"),
        ("FEED_FRESHNESS", "perhaps"),
        ("QUOTA_DAILY_LIMIT", "0"),
        ("QUOTA_DAILY_LIMIT", "fifteen"),
        ("QUOTA_SAFETY_BUFFER", "-1"),
        ("QUOTA_SAFETY_BUFFER", "15000"),
        ("QUOTA_MAX_RPS", "0"),
        ("QUOTA_ENFORCEMENT", "off"),
        ("API_REQUESTS_PER_MINUTE", "-1"),
        ("EMAIL_URL", "mail.example"),
        ("EMAIL_URL", "https://user:password@mail.example"),
        ("EMAIL_URL", "smtp://"),
        ("EMAIL_URL", "smtp://user:password@mail.example:many"),
        ("EMAIL_URL", "smtp://user:pass#word@mail.example"),
        ("EMAIL_URL", "smtp://user:pass/word@mail.example"),
        ("ALERT_EMAIL_TO", "ops"),
        ("ALERT_EMAIL_TO", "Ops <ops@books.example>"),
        ("ALERT_EMAIL_TO", "ops@books.example"),
        ("ALERT_EMAIL_FROM", "ops"),
        ("ALERT_EMAIL_SEVERITY", "loud"),
        ("ALERT_WEBHOOKS_TO_PRIVATE", "maybe"),
        ("ALERT_ERROR_PERCENT", "0"),
        ("ALERT_LEASES_EXPIRED", "0"),
        ("SSL_CERT_FILE", "/nowhere"),
        ("SSL_CERT_FILE", __file__),
        ("BIND", "127.0.0.1:8000"),
        ("BIND", "*"),
        ("BIND", "http://127.0.0.1"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "web"),
        ("WEB_CONCURRENCY", "0"),
        ("WEB_THREADS", "0"),
        ("WORKER_CONCURRENCY", "-1"),
        ("JOBS_CONCURRENCY", "two"),
        ("METRICS_ALLOW", "localhost"),
        ("METRICS_ALLOW", "127.0.0.1,10.0.0.1/8"),
        ("METRICS_TOKEN", "19-characters-short"),
    ],
)
def test_a_value_that_is_not_valid_is_refused_by_name(load_settings: LoadSettings, variable: str, value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=variable) as refused:
        load_settings(**{variable: value})
    message = str(refused.value).replace("user:password@host", "").replace("without user:password@", "")
    assert "user:pass" not in message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("QUOTA_DAILY_LIMITS", "QUOTA_DAILY_LIMIT"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("ALLOWED_HOST", "ALLOWED_HOSTS"),
        ("WEB_CONCURENCY", "WEB_CONCURRENCY"),
        ("quota_daily_limit", ""),
        ("QUOTA_FLOOR", "docs/settings.md"),
    ],
)
def test_a_name_that_is_no_setting_but_resembles_one_is_refused(
    load_settings: LoadSettings, name: str, meant: str
) -> None:
    if not meant:
        assert load_settings(**{name: "1"})
        return
    with pytest.raises(ImproperlyConfigured, match=f"{name} is set, but .*{meant}"):
        load_settings(**{name: "1"})


def test_the_names_of_other_programs_are_accepted(load_settings: LoadSettings) -> None:
    others = "PATH SSL_CERT_DIR REDIS_PORT POSTGRES_PORT ALEXANDRIA_SERVICE_HOST SECRET_KEY_BASE PORTS HOST DEBUG_PORT"
    assert load_settings(**dict.fromkeys(others.split(), "other"))


def test_a_password_in_an_address_is_not_repeated(load_settings: LoadSettings) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"ISBNDB_BASE_URL .* without user:password@") as caught:
        load_settings(ISBNDB_BASE_URL="https://me:hunter2@api2.isbndb.com")
    assert "hunter2" not in str(caught.value)


def test_a_database_address_can_set_its_own_options(load_settings: LoadSettings) -> None:
    address = "postgres://user@db.example/books"
    assert "lock_timeout=2s" in load_settings(DATABASE_URL=address)["DATABASE"]["OPTIONS"]["options"]
    own = load_settings(DATABASE_URL=f"{address}?options=-c%20lock_timeout%3D1s")
    assert own["DATABASE"]["OPTIONS"]["options"] == "-c lock_timeout=1s"


def test_the_mail_settings_come_from_the_address(load_settings: LoadSettings) -> None:
    names = ("HOST", "PORT", "HOST_USER", "HOST_PASSWORD", "USE_TLS", "USE_SSL")

    def mail(url: str) -> tuple[Any, ...]:
        settings = load_settings(
            EMAIL_URL=url, ALERT_EMAIL_TO="a@b.example, c@d.example", ALERT_EMAIL_FROM="e@f.example"
        )
        assert (settings["ALERT_EMAIL_TO"], settings["ALERT_EMAIL_FROM"]) == (
            ["a@b.example", "c@d.example"],
            "e@f.example",
        )
        return tuple(settings[f"EMAIL_{name}"] for name in names)

    assert mail("smtp://mail.example") == ("mail.example", 25, "", "", False, False)
    assert mail("smtp+tls://me:a%23b%40c@mail.example") == ("mail.example", 587, "me", "a#b@c", True, False)
    assert mail("smtp+ssl://me@mail.example:1465/") == ("mail.example", 1465, "me", "", False, True)


def test_the_start_stops_without_a_secret_key_unless_debug_is_on(load_settings: LoadSettings) -> None:
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY is not set"):
        load_settings(SECRET_KEY="", DEBUG="off")
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY has 49 characters"):
        load_settings(SECRET_KEY="x" * 49, DEBUG="off")
    assert load_settings(SECRET_KEY="x" * 50, DEBUG="off", ALLOWED_HOSTS="books.example")["SECRET_KEY"] == "x" * 50
    assert load_settings(SECRET_KEY="", DEBUG="on")["SECRET_KEY"]


def test_the_start_stops_without_allowed_hosts_unless_debug_is_on(load_settings: LoadSettings) -> None:
    with pytest.raises(ImproperlyConfigured, match="ALLOWED_HOSTS"):
        load_settings(DEBUG="off", ALLOWED_HOSTS="")
    assert "localhost" in load_settings(DEBUG="on", ALLOWED_HOSTS="")["ALLOWED_HOSTS"]


def test_hosts_and_servers_are_accepted_in_every_form(load_settings: LoadSettings) -> None:
    hosts = ["books.example", ".books.example", "10.0.0.7", "[::1]", "web", "*"]
    assert load_settings(ALLOWED_HOSTS=", ".join(hosts))["ALLOWED_HOSTS"] == hosts
    for scheme in ("postgres", "postgresql"):
        database = load_settings(DATABASE_URL=f"{scheme}://user:pass%23word@db.example:5433/books")["DATABASE"]
        assert (database["HOST"], database["PORT"], database["NAME"]) == ("db.example", 5433, "books")
        assert (database["USER"], database["PASSWORD"]) == ("user", "pass#word")


def test_redis_does_not_give_a_task_to_another_worker_while_it_can_still_run(load_settings: LoadSettings) -> None:
    settings = load_settings()
    assert settings["CELERY_BROKER_TRANSPORT_OPTIONS"]["visibility_timeout"] > settings["CELERY_TASK_TIME_LIMIT"]


@pytest.mark.slow
def test_a_refused_setting_is_one_line_on_the_command_line() -> None:
    result = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env={**os.environ, "QUOTA_MAX_RPS": "fast"},
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "QUOTA_MAX_RPS must be a whole number from 1 to 1000, not 'fast'." in result.stderr
    assert "Traceback" not in result.stderr


def test_https_is_required_unless_debug_is_on(load_settings: LoadSettings) -> None:
    rules = ("SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE")

    production = load_settings(DEBUG="off", ALLOWED_HOSTS="books.example")
    assert all(production[rule] for rule in rules)
    assert not any(load_settings(DEBUG="on")[rule] for rule in rules)


def test_hsts_is_for_this_host_alone_unless_a_setting_says_more(load_settings: LoadSettings) -> None:
    more = {"HSTS_SUBDOMAINS": "SECURE_HSTS_INCLUDE_SUBDOMAINS", "HSTS_PRELOAD": "SECURE_HSTS_PRELOAD"}
    production = {"DEBUG": "off", "ALLOWED_HOSTS": "books.example"}
    assert [load_settings(**production)[name] for name in more.values()] == [False, False]
    for variable, name in more.items():
        assert load_settings(**production, **{variable: "on"})[name] is True


def test_the_example_documents_every_variable_with_its_default(load_settings: LoadSettings) -> None:
    documented = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", ENV_EXAMPLE.read_text(), re.MULTILINE))
    read = set(re.findall(r'env\.(?!gone)\w+\(\s*"([A-Z_]+)"', SETTINGS.read_text()))
    assert read - set(documented) == set()

    settings = load_settings(**{**dict.fromkeys(read, ""), "SECRET_KEY": "x" * 50, "ALLOWED_HOSTS": "books.example"})
    defaults = {name: documented[name] for name in read if documented[name] and name in settings}
    assert {name: str(settings[name]) for name in defaults} == defaults | dict.fromkeys(
        ("DEBUG", "DATABASE_POOLED", "ALERT_WEBHOOKS_TO_PRIVATE"), "False"
    ) | {"FEED_FRESHNESS": "True"}


def test_the_broker_and_the_cache_share_one_redis_database(load_settings: LoadSettings) -> None:
    assert load_settings(REDIS_URL="redis://redis.example/3")["CELERY_BROKER_URL"] == "redis://redis.example/3"
    # kombu reads the database number from `virtual_host` and ignores `db`.
    by_socket = load_settings(REDIS_URL="unix:///run/redis.sock?db=3")
    assert by_socket["CELERY_BROKER_URL"] == "redis+socket:///run/redis.sock?virtual_host=3"
    assert by_socket["CACHES"]["default"]["LOCATION"] == "unix:///run/redis.sock?db=3"


def test_a_dotenv_file_adds_only_variables_that_are_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOTA_MAX_RPS", "5")
    monkeypatch.setenv("FROM_THE_FILE", "")  # so that monkeypatch removes it afterwards
    monkeypatch.delenv("FROM_THE_FILE")
    (tmp_path / ".env").write_text("QUOTA_MAX_RPS=1\nFROM_THE_FILE='two words'\n")

    env.read_dotenv(tmp_path / "missing")
    env.read_dotenv(tmp_path / ".env")
    assert (env.text("QUOTA_MAX_RPS"), env.text("FROM_THE_FILE")) == ("5", "two words")
