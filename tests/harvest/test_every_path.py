"""Everything that spends calls, at once: ISBNdb's count equals ours under each price, and no limit is passed."""

import threading
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import EnrichmentStopped
from enrichment.jobs.lifecycle import create_job
from enrichment.jobs.workers import run_job
from enrichment.models import Edition, Job, QueuedIsbn
from enrichment.services import prices
from enrichment.services.bibliographies import enrich_bibliography
from enrichment.services.enrich import enrich_isbns
from enrichment.services.queue import enqueue
from enrichment.services.reconciliation import reconcile
from enrichment.services.releases import Wanted, enrich_new_releases
from harvest.runs import run_cron
from quota.models import Call, Consumer, PriceMeasurement
from quota.selectors.prices import get_prices
from quota.selectors.status import get_status
from quota.services import reservations
from tests.fixtures import balance, known_isbns
from tests.harvest.bulk import Ended, a_list, harvest

pytestmark = pytest.mark.slow

LIMIT = 700
AUTHORS = ("Frank Herbert", "Ursula K. Le Guin", "Umberto Eco")


@pytest.fixture(autouse=True)
def small_day(settings, consumer: Consumer, defaults: None, sandbox: Sandbox) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = LIMIT, 0
    settings.ISBNDB_BATCH_SIZE = 50
    Consumer.objects.update(floor=0)
    enrich_isbns(known_isbns(200)[150:], consumer="reader")
    Edition.objects.update(synced_at=Now() - timedelta(days=400))


def jobs(isbns: list[str]) -> None:
    create_job(consumer=Consumer.objects.get(slug="reader"), kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": isbns})
    run_job()


def until_refused(work: Callable[[], Any]) -> Callable[[], None]:
    """Runs the work in a thread, which may end because the quota refuses calls."""

    def run() -> None:
        try:
            work()
        except EnrichmentStopped:
            pass
        finally:
            connection.close()

    return run


def spend_everywhere_at_once(folder: Path) -> Ended:
    """Runs everything that spends calls in threads, and a bulk harvest beside them. Returns how that ended."""
    isbns = known_isbns(1200)[200:]
    enqueue(isbns[:200], priority=QueuedIsbn.Priority.HIGH, consumer="reader")
    month = date(2026, 4, 1)
    releases = Wanted(start_month=month, end_month=month, max_pages_per_month=3)
    work = {
        "batch": lambda: enrich_isbns(isbns[200:400], consumer="reader"),
        "job": lambda: jobs(isbns[400:700]),
        "releases": lambda: enrich_new_releases(releases, consumer="reader"),
        "author": lambda: enrich_bibliography("Isaac Asimov", consumer="reader"),
        "key": lambda: reconcile(consumer="reader"),
        "flush": lambda: run_cron("queue-flush"),
        "refresh": lambda: run_cron("stale-refresh"),
        "feed": lambda: run_cron("update-feed"),
        "reconciliation": lambda: run_cron("reconciliation"),
    }
    threads = [threading.Thread(target=until_refused(each), name=name) for name, each in work.items()]
    for thread in threads:
        thread.start()
    bulk = harvest(a_list(folder, *AUTHORS))
    for thread in threads:
        thread.join()
    reservations.expire()
    return bulk


@pytest.mark.parametrize("price", ["request", "isbn"])
def test_whatever_spends_calls_at_once_isbndbs_count_equals_ours_and_the_limit_holds(
    sandbox: Sandbox, settings, price: str, tmp_path: Path
) -> None:
    settings.ISBNDB_BATCH_PRICE = price
    sandbox.set_plan(batch_price=price)
    bulk = spend_everywhere_at_once(tmp_path)

    assert bulk.code == 0 or price == "isbn", "by the ISBN the others can use up the day first"
    theirs, ours = balance(sandbox)
    assert theirs == ours <= LIMIT
    status = get_status()
    assert status.requests == len(sandbox.requests) == Call.objects.filter(reservation__isnull=False).count()
    spent = set(Call.objects.values_list("operation", flat=True))
    assert spent >= {"queue", "new-releases", "bibliography", "reconciliation", "update-feed"}


@pytest.mark.parametrize("price", ["request", "isbn"])
def test_the_price_is_measured_once_while_everything_spends_calls_and_ours_is_never_under(
    sandbox: Sandbox, settings, price: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ISBNDB_BATCH_PRICE = "measure"
    monkeypatch.setattr(prices, "PAUSES", (0.1,) * 5)
    sandbox.set_plan(batch_price=price)
    spend_everywhere_at_once(tmp_path)

    assert get_prices().batch_price == price
    assert PriceMeasurement.objects.filter(how="probe").count() == 1
    theirs, ours = balance(sandbox)
    overcharged = 1 if price == "request" else 0  # the batch of the probe, while its price was unknown
    assert theirs + overcharged == ours <= LIMIT
