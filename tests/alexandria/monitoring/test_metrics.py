"""/metrics exports the figures of the tables and of the processes, only to clients that may read them."""

import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from alexandria import env
from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR
from alexandria.monitoring import metrics, multiprocess
from enrichment.jobs.lifecycle import create_job
from enrichment.jobs.workers import run_job
from enrichment.models import Edition, Job
from enrichment.services.queue_flush import flush
from harvest.runs import run_cron
from quota.models import Call, Consumer, DailyLedger, Refusal
from quota.prices import RequestKind
from quota.selectors.dashboard import get_dashboard
from quota.selectors.status import get_status
from quota.services import reservations
from quota.services.corrections import adjust
from tests import processes
from tests.fixtures import NOON, database_moved, known_isbns, set_database_clock, silent_port, unknown_isbns

BATCH = "/api/enrich/batch-direct"
DOCS = BASE_DIR / "docs"
TOKEN = "a-token-of-20-characters"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def scraper(transactional_db) -> Iterator[Client]:
    yield Client()
    for thread in threading.enumerate():  # a query that still runs would answer the next test
        if thread.name.startswith("bounded "):
            thread.join(timeout=30)


def samples(scraper: Client) -> Samples:
    response = scraper.get("/metrics")
    assert response.status_code == 200
    families = text_string_to_metric_families(response.content.decode())
    return {(it.name, frozenset(it.labels.items())): it.value for family in families for it in family.samples}


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((f"alexandria_{name}", frozenset(labels.items())))


@pytest.fixture
def trace(api: APIClient, consumer: Consumer, sandbox: Sandbox, scraper: Client) -> None:
    """One of each: a batch of four ISBNs with three known books, a failure with retries, a refusal, a job, …"""
    Consumer.objects.create(slug="cron-reconciliation", kind="cron")
    assert api.post(BATCH, [*known_isbns(3), *unknown_isbns(1)], format="json").status_code == 200
    sandbox.add_fault("status", status=500, times=3)
    assert api.post(BATCH, known_isbns(9)[8:], format="json").status_code == 502
    Consumer.objects.filter(pk=consumer.pk).update(daily_budget=1)
    for _ in range(2):
        assert api.post(BATCH, known_isbns(5)[4:], format="json").status_code == 429
    Consumer.objects.filter(pk=consumer.pk).update(daily_budget=900)
    assert api.post("/api/enrich/queue", known_isbns(7)[5:], format="json").status_code == 202
    flush()
    api.post(BATCH, known_isbns(8)[7:], format="json", headers={"Prefer": "respond-async"})
    run_job()
    for cron in ("expire-leases", "expire-leases", "reconciliation", "queue-flush"):
        run_cron(cron)
    reservations.increment(2)
    adjust(calls=-1, consumer="reader", reason="one too many", made_with="a test")
    reservations.reserve(consumer="reader", operation="kept", calls=1)
    create_job(consumer=consumer, kind=Job.Kind.AUTHORS, wanted={"authors": ["Frank Herbert"]}, attended=True)


def test_the_figures_equal_the_tables_exactly(trace, scraper: Client, sandbox: Sandbox) -> None:
    set_database_clock(NOON + timedelta(seconds=1000))
    found, status = samples(scraper), get_status()
    for name, figure in {
        "database_up": 1,
        "quota_daily_limit": 15_000,
        "quota_safety_limit": 13_000,
        "quota_used": status.used,
        "quota_reserved": 1,
        "quota_remaining": status.remaining,
        "quota_closed": 0,
        "quota_enforced": 1,
        "calls_unknown": 0,
        "quota_requests": status.requests,
        "isbndb_requests_unknown": 0,
        "calls_adjusted": -1,
        "reservations_open": 1,
        "drift_total": 0,
        "drift_last": 0,
        "leases_expired_total": 0,
        "editions": Edition.objects.count(),
        "queue_failed": 0,
    }.items():
        assert value(found, name) == figure, name
    calls = {key[1]: count for key, count in found.items() if key[0] == "alexandria_calls_total"}
    assert sum(calls.values()) - 1 == status.used
    assert value(found, "calls_total", consumer="external", outcome="external", status="none") == 2
    assert value(found, "calls_total", consumer="reader", outcome="server_error", status="5xx") == 3
    assert value(found, "consumer_daily_budget", consumer="reader") == 900
    assert value(found, "refusals_total", consumer="reader", limit="daily_budget") == 2
    asked = sum(call.isbns_asked or 0 for call in Call.objects.filter(consumer__slug="reader"))
    assert value(found, "isbns_asked_total", consumer="reader") == asked > 4
    assert value(found, "isbns_found_total", consumer="reader") == Edition.objects.count() == 4
    sent = Call.objects.filter(reservation__isnull=False).count()
    requests = {key[1]: count for key, count in found.items() if key[0] == "alexandria_isbndb_requests_total"}
    assert sum(requests.values()) == status.requests == sent
    assert value(found, "isbndb_requests_total", consumer="reader", outcome="server_error", status="5xx") == 3
    assert value(found, "consumer_requests", consumer="reader") == status.requests - 1, "the reconciliation's"
    assert value(found, "isbndb_latency_seconds_count") == value(found, "pace_wait_seconds_count") == sent
    assert value(found, "isbndb_latency_seconds_bucket", le="5.0") == sent
    assert value(found, "queue_isbns", priority="normal") == 2
    assert value(found, "jobs", kind="batch-direct", state="running") == 0
    assert value(found, "jobs_ended_total", kind="batch-direct", state="succeeded") == 1
    assert value(found, "cron_runs_total", cron="expire-leases", outcome="idle") == 2
    assert value(found, "cron_last_outcome", cron="reconciliation", outcome="succeeded") == 1
    assert value(found, "cron_last_outcome", cron="reconciliation", outcome="failed") == 0
    assert value(found, "jobs", kind="authors", state="paused") == value(found, "job_authors", state="pending") == 1
    for name in ("reservation_oldest_seconds", "reconciliation_age_seconds", "queue_looked_seconds"):
        assert 900 < (value(found, name) or 0) < 1100, name


def test_a_new_day_starts_at_zero(trace, scraper: Client) -> None:
    set_database_clock(NOON + timedelta(days=1))
    found = samples(scraper)
    assert value(found, "quota_used") == 0
    of_the_day = {"calls", "refusals", "isbns_asked", "jobs_ended", "cron_runs", "leases_expired", "drift"}
    names = {f"alexandria_{name}_total" for name in of_the_day}
    counted = {key: count for key, count in found.items() if key[0] in names}
    assert set(counted.values()) == {0}, counted
    assert value(found, "cron_last_outcome", cron="reconciliation", outcome="succeeded") == 1


def test_a_refusal_just_before_midnight_does_not_count_for_the_next_day(consumer: Consumer, scraper: Client) -> None:
    reservations.open_ledger()
    midnight = NOON + timedelta(hours=12)
    Refusal.objects.create(
        ledger=DailyLedger.objects.get(),
        consumer=consumer,
        operation="late",
        limit="midnight",
        asked=1,
        free=0,
        **dict.fromkeys(("at", "last_at", "within"), midnight + timedelta(seconds=1)),
        figures={},
    )
    set_database_clock(midnight + timedelta(minutes=10))
    assert not [name for name, _ in samples(scraper) if name == "alexandria_refusals_total"]
    assert get_dashboard(reservations=1).refusals == {}


def test_a_scrape_makes_few_queries_and_never_reads_the_whole_journal(trace, scraper: Client) -> None:
    with CaptureQueriesContext(connection) as asked:
        metrics._figures()
    assert len(asked) <= 28, len(asked)
    of_journal = [query["sql"] for query in asked if re.search(r'FROM "?quota_call\b', query["sql"])]
    assert of_journal
    assert all(re.search(r"day = '2026-05-05'", sql) for sql in of_journal)


@pytest.mark.slow
def test_without_the_database_the_metrics_of_processes_remain(scraper: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with database_moved(port=1):
        gone = samples(scraper)
    monkeypatch.setattr(metrics, "MAX_DATABASE_SECONDS", 0.2)
    with silent_port() as port, database_moved(port):
        silent = samples(scraper)
    for found in (gone, silent):
        assert value(found, "database_up") == 0
        assert value(found, "quota_used") is None
        assert any(name.startswith("django_http_") for name, _ in found)


@pytest.mark.parametrize(
    ("allowed", "address", "headers", "status"),
    [
        ("127.0.0.1,::1", "127.0.0.1", {}, 200),
        ("127.0.0.1,::1", "::1", {}, 200),
        ("127.0.0.1,::1", "::ffff:127.0.0.1", {}, 200),
        ("127.0.0.1,::1", "10.0.0.7", {}, 403),
        ("127.0.0.1,::1", "", {}, 403),
        ("10.0.0.0/8", "10.0.0.7", {}, 200),
        ("10.0.0.0/8", "11.0.0.7", {}, 403),
        ("127.0.0.1", "127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, 403),
        ("127.0.0.1", "127.0.0.1", {"Forwarded": "for=127.0.0.1"}, 403),
        ("127.0.0.1", "10.0.0.7", {"X-Forwarded-For": "127.0.0.1"}, 403),
        ("127.0.0.1", "10.0.0.7", {"Authorization": f"Bearer {TOKEN}"}, 200),
        ("127.0.0.1", "10.0.0.7", {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "1.2.3.4"}, 200),
        ("127.0.0.1", "10.0.0.7", {"Authorization": f"Bearer {TOKEN}x"}, 403),
        ("127.0.0.1", "10.0.0.7", {"Authorization": f"Api-Key {TOKEN}"}, 403),
        ("127.0.0.1", "10.0.0.7", {"Authorization": "Bearer "}, 403),
        ("127.0.0.1", "127.0.0.1", {"Authorization": "Bearer wrong"}, 403),
    ],
)
def test_only_configured_addresses_and_the_token_may_read_the_metrics(
    scraper: Client, settings, allowed: str, address: str, headers: dict[str, str], status: int
) -> None:
    settings.METRICS_NETWORKS = env.networks("NOT_SET", allowed.split(","))
    settings.METRICS_TOKEN = TOKEN
    response = scraper.get("/metrics", headers=headers, REMOTE_ADDR=address)
    assert response.status_code == status
    assert ("alexandria_" in response.content.decode()) == (status == 200)


def test_without_a_configured_token_no_token_is_accepted(scraper: Client) -> None:
    for token in ("", "None"):
        headers = {"Authorization": f"Bearer {token}"}
        assert scraper.get("/metrics", headers=headers, REMOTE_ADDR="10.0.0.7").status_code == 403


@pytest.mark.slow
def test_a_scraper_that_asks_for_openmetrics_gets_it(scraper: Client) -> None:
    response = scraper.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = list(openmetrics.text_string_to_metric_families(response.content.decode()))
    assert "alexandria_quota_used" in {family.name for family in families}


def test_requests_are_labelled_by_route_name_and_known_method(
    api: APIClient, sandbox: Sandbox, scraper: Client
) -> None:
    for path in ("/api/books/9780441013593", "/api/books/9780735211292", "/api/nope/1", "/nope/2"):
        api.get(path)
    api.generic("BREW", "/api/quota/status")
    response = scraper.get("/metrics").content.decode()
    latency = re.findall(r"django_http_requests_latency_seconds_by_view_method_count\{(.*)\}", response)
    assert any('view="book"' in labels for labels in latency)
    assert "BREW" not in response
    assert not {"9780441013593", "nope"} & set(re.findall(r"\w+", " ".join(latency)))


@pytest.mark.slow
def test_measurements_of_a_worker_are_in_the_metrics_of_other_processes(
    api: APIClient, sandbox: Sandbox, scraper: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "measured"
    response = api.post(BATCH, known_isbns(1), format="json", headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    worker = processes.start("jobs", tmp_path / "log", **{multiprocess.VARIABLE: str(folder)})
    try:
        deadline = time.monotonic() + 120
        while (state := Job.objects.get().state) != "succeeded":
            assert (worker.poll(), time.monotonic() < deadline) == (None, True), (state, (tmp_path / "log").read_text())
            time.sleep(0.1)
    finally:
        processes.kill(worker)
    monkeypatch.setenv(multiprocess.VARIABLE, str(folder))
    found = samples(scraper)
    decided = {"step": "reserve_and_dispatch", "outcome": "granted"}
    assert value(found, "quota_decision_seconds_count", **decided) == 1
    assert value(found, "quota_used") == 1
    assert {path.name.rpartition("_")[2].partition("-")[0] for path in folder.iterdir()} == {
        multiprocess.HOST.partition("-")[0]
    }


@pytest.mark.slow
def test_the_duration_of_a_decision_is_labelled_with_its_outcome(consumer: Consumer, scraper: Client) -> None:
    def decided(step: str, outcome: str) -> float:
        return value(samples(scraper), "quota_decision_seconds_count", step=step, outcome=outcome) or 0

    steps = [("reserve", "granted"), ("dispatch", "granted"), ("extend", "granted"), ("reserve", "daily_budget")]
    before = [decided(*step) for step in steps]
    reservation = reservations.reserve(consumer="reader", operation="x", calls=1)
    reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    reservations.extend(reservation)
    Consumer.objects.update(daily_budget=0)
    with pytest.raises(Exception, match="budget"):
        reservations.reserve(consumer="reader", operation="x", calls=1)
    gone = decided("reserve", "unavailable")
    with database_moved(port=1), pytest.raises(Exception, match="database"):
        reservations.reserve(consumer="reader", operation="x", calls=1)
    assert [decided(*step) for step in steps] == [count + 1 for count in before]
    assert decided("reserve", "unavailable") == gone + 1


# --- docs/grafana-dashboard.json and docs/prometheus-rules.yml


def rules() -> list[dict[str, Any]]:
    found = yaml.safe_load((DOCS / "prometheus-rules.yml").read_text())
    return [rule for group in found["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + [target["expr"] for panel in panels() for target in panel["targets"]]


def test_every_metric_and_label_in_the_docs_exists(trace, api: APIClient, scraper: Client) -> None:
    labels: dict[str, set[str]] = {}
    for name, pairs in samples(scraper):
        labels.setdefault(name, set()).update(dict(pairs))
    used = set()
    for expression in expressions():
        names = set(re.findall(r"\b(?:alexandria|django)_\w+", expression))
        assert names or "up{" in expression, expression
        assert names <= set(labels), f"{names - set(labels)} in {expression}"
        used |= names
        for name, matchers in re.findall(r"\b((?:alexandria|django)_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)", matchers)) <= labels[name], expression
        grouped = {word for group in re.findall(r"by \(([^)]*)\)", expression) for word in re.findall(r"\w+", group)}
        assert grouped <= set().union(*(labels[name] for name in names)), expression
    assert len(used) > 25


def test_the_rules_have_the_format_of_prometheus() -> None:
    file = yaml.safe_load((DOCS / "prometheus-rules.yml").read_text())
    assert set(file) == {"groups"}
    for group in file["groups"]:
        assert set(group) == {"name", "rules"}
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 10
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"[A-Z]\w+", rule["alert"])
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        for opening, closing in ("()", "{}", "[]"):
            assert rule["expr"].count(opening) == rule["expr"].count(closing)


def test_the_dashboard_has_a_title_and_a_unit_on_every_panel() -> None:
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    assert dashboard["title"] == "Alexandria"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["expr"] and target["refId"] for target in panel["targets"])


def test_the_docs_explain_every_metric(trace, scraper: Client) -> None:
    explained = (DOCS / "monitoring.md").read_text()
    families = text_string_to_metric_families(scraper.get("/metrics").content.decode())
    for family in families:
        if family.name.startswith("alexandria_"):
            assert f"`{family.name}{'_total' if family.type == 'counter' else ''}`" in explained, family.name
            for label in {label for sample in family.samples for label in sample.labels} - {"le"}:
                row = next(line for line in explained.splitlines() if f"`{family.name}" in line)
                assert f"`{label}`" in row, (family.name, label)
