"""`python -m tests.browser.screenshots` takes the pictures in docs/screenshots again.

It starts its own stack with the sandbox. Consumers, ledgers and the calls of the last days are invented (in SQL). The
job, the refusal and the alerts are real: they come from the running stack.
"""

import os
import shutil
import tempfile
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import django
from playwright.sync_api import Browser, Page, sync_playwright

from alexandria.development import stack
from alexandria.development.embedded import servers
from alexandria.env import BASE_DIR
from alexandria.management.commands.demo import ISBNS as DEMO_ISBNS
from alexandria.management.commands.demo import OWN_STACK

FOLDER = BASE_DIR / "docs" / "screenshots"
WIDTH, HEIGHT, TALL = 1280, 960, 1500
PASSWORD = "only-for-screenshots"
DAYS, DAYS_WITH_CALLS = 30, 2
AFTERNOON = time(15, 40, tzinfo=UTC)
CALLS_A_DAY = {
    "catalogue": 4_100,
    "reading-room": 2_600,
    "acquisitions": 900,
    "bulk-author": 1_900,
    "cron-stale-refresh": 1_300,
    "cron-new-releases": 500,
}
"""By consumer. Each day has a share of it; today's share depends on the time."""

DAY = """
WITH who AS (
    SELECT id, slug, (%(calls)s::jsonb ->> slug)::int * %(share)s AS planned FROM quota_consumer
    WHERE %(calls)s::jsonb ? slug
), spent AS (SELECT id, slug, greatest(1, (planned * (0.7 + 0.5 * random()))::int) AS calls FROM who
), ledger AS (
    INSERT INTO quota_dailyledger
        (day, daily_limit, safety_buffer, max_rps, used, reserved, requests, next_dispatch_at, closed_reason, opened_at)
    SELECT %(day)s, 15000, 2000, 3, sum(calls), 0, sum(calls), %(day)s::date, '', %(day)s::date FROM spent
)
INSERT INTO quota_consumerusage (day, consumer_id, used, reserved, requests)
SELECT %(day)s, id, calls, 0, calls FROM spent
"""
RESERVATIONS = """
INSERT INTO quota_reservation
    (id, day, consumer_id, operation, source, asked, calls, dispatched, state, created_at, expires_at, closed_at)
SELECT gen_random_uuid(), day, consumer_id, CASE WHEN c.kind = 'api' THEN 'batch-direct' ELSE 'bibliography' END, '',
    used, used, used, 'settled', %(from)s, %(until)s, %(until)s
FROM quota_consumerusage u JOIN quota_consumer c ON c.id = consumer_id WHERE day = %(day)s
"""
CALLS = """
INSERT INTO quota_call
    (day, consumer_id, reservation_id, operation, calls, dispatched_at, send_at, method, path, outcome, status,
    latency_ms, isbns_asked, isbns_found, error)
SELECT day, consumer_id, id, operation, 1, at, at,
    CASE WHEN operation = 'batch-direct' THEN 'POST' ELSE 'GET' END,
    CASE WHEN operation = 'batch-direct' THEN '/books' ELSE '/author/Ursula K. Le Guin' END,
    CASE WHEN luck < 0.97 THEN 'ok' WHEN luck < 0.985 THEN 'too_fast' WHEN luck < 0.995 THEN 'server_error'
        ELSE 'timeout' END,
    CASE WHEN luck < 0.97 THEN 200 WHEN luck < 0.985 THEN 429 WHEN luck < 0.995 THEN 502 END,
    120 + (400 * random())::int,
    CASE WHEN operation = 'batch-direct' THEN 1000 END, CASE WHEN luck < 0.97 THEN 760 + (200 * random())::int END, ''
FROM (
    SELECT *, random() AS luck, %(from)s::timestamptz
        + (%(until)s::timestamptz - %(from)s::timestamptz) * ((n + random()) / calls) ^ 0.8 AS at
    FROM quota_reservation, generate_series(0, calls - 1) AS n WHERE day = %(day)s
) AS made ORDER BY at
"""


def main() -> None:
    servers.private_folder(servers.data_dir())
    folder = Path(tempfile.mkdtemp(prefix="screenshots-", dir=servers.data_dir()))
    # On a plan by the request, as the invented day counts its calls.
    limits = {"QUOTA_DAILY_LIMIT": "15000", "QUOTA_SAFETY_BUFFER": "2000", "ISBNDB_BATCH_PRICE": "request"}
    environment = OWN_STACK | limits
    try:
        with stack.running(data_dir=folder, environment=environment) as running, sync_playwright() as playwright:
            os.environ.update(running.environment)
            os.environ |= {"DJANGO_SETTINGS_MODULE": "alexandria.settings", "DJANGO_ALLOW_ASYNC_UNSAFE": "on"}
            django.setup()
            make_history()
            from tests.browser.conftest import browser_path

            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=browser_path(), args=arguments)
            take(browser, running)
            browser.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_history() -> None:
    """Creates 30 days of ledgers, and sets the clock of the quota to 15:40 UTC today, with no cron late."""
    import json

    from django.contrib.auth.models import User
    from django.db import connection, transaction

    from harvest.models import CronState
    from harvest.schedules import schedules_by_cron
    from quota.models import Consumer
    from tests.fixtures import set_database_clock

    User.objects.create_superuser("librarian", password=PASSWORD)
    now = datetime.combine(datetime.now(UTC).date(), AFTERNOON)
    for slug in CALLS_A_DAY:
        Consumer.objects.get_or_create(slug=slug)
    Consumer.objects.filter(slug="reading-room").update(daily_budget=4_000)
    Consumer.objects.filter(slug="acquisitions").update(cap_per_operation=2)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM quota_consumerusage")
        cursor.execute("DELETE FROM quota_dailyledger")
        for ago in reversed(range(DAYS)):  # the journal shows its newest rows first
            midnight = datetime.combine(now.date() - timedelta(days=ago), time(), tzinfo=UTC)
            until = now if ago == 0 else midnight + timedelta(hours=23, minutes=50)
            share = 0.98 if ago == 0 else 0.55 + 0.5 * abs((ago % 7) - 3) / 3
            names: dict[str, Any] = {"day": midnight.date(), "from": midnight, "until": until, "share": share}
            names["calls"] = json.dumps(CALLS_A_DAY)
            cursor.execute(DAY, names)
            if ago < DAYS_WITH_CALLS:
                cursor.execute(RESERVATIONS, names)
                cursor.execute(CALLS, names)
    set_database_clock(now)
    for name in schedules_by_cron():  # what was due until then has started
        CronState.objects.update_or_create(name=name, defaults={"last_tick_at": now})


def take(browser: Browser, running: stack.Stack) -> None:
    from django.urls import reverse

    from alexandria.alerts import services
    from quota.models import Consumer, DailyLedger, Refusal

    page = log_in(browser, running)
    refuse(page, running.manage("create_api_key", "shots", "--consumer", "acquisitions").strip())
    refusal = Refusal.objects.get(consumer__slug="acquisitions")
    reader = Consumer.objects.get(slug="reading-room")
    shots = {
        "dashboard": reverse("admin:index"),
        "ledger": reverse("admin:quota_dailyledger_change", args=[DailyLedger.objects.latest("day").pk]),
        "calls": reverse("admin:quota_call_changelist"),
        "refusal": reverse("admin:quota_refusal_change", args=[refusal.pk]),
        "consumers": reverse("admin:quota_consumer_changelist"),
        "consumer": reverse("admin:quota_consumer_change", args=[reader.pk]),
        "alerts": reverse("admin:alerts_alert_changelist"),
    }
    run_job(page)
    services.check()
    for name, path in shots.items():
        page.goto(path)
        page.set_viewport_size({"width": WIDTH, "height": TALL if name == "dashboard" else HEIGHT})
        shoot(page, name)
    page.goto(shots["dashboard"])
    page.keyboard.press("Control+e")
    page.keyboard.press("Control+e")
    shoot(page, "dashboard-dark")
    phone = log_in(browser, running, width=390)
    phone.goto(shots["dashboard"])
    shoot(phone, "dashboard-phone")


def log_in(browser: Browser, running: stack.Stack, *, width: int = WIDTH) -> Page:
    viewport: Any = {"width": width, "height": HEIGHT}
    page = browser.new_context(base_url=running.base_url, viewport=viewport, color_scheme="light").new_page()
    page.goto("/admin/")
    page.get_by_label("Username").fill("librarian")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    return page


def refuse(page: Page, key: str) -> None:
    """Makes a request that the API refuses, because of a limit of the consumer."""
    body = {"author_name": "Agatha Christie", "max_pages": 5}
    headers = {"Authorization": f"Api-Key {key}"}
    page.request.post("/api/authors/enrich-bibliography", data=body, headers=headers)


def run_job(page: Page) -> None:
    """Pastes the ISBNs of the demo, checks them and runs them as a job."""
    from django.urls import reverse

    page.goto(reverse("admin:check_isbns"))
    listed = DEMO_ISBNS.read_text().splitlines()
    page.get_by_label("ISBNs", exact=True).fill("\n".join(line for line in listed if not line.startswith("#")))
    page.get_by_role("button", name="Check").click()
    page.get_by_role("button", name="Run as a job").wait_for()
    shoot(page, "check-isbns")
    page.get_by_role("button", name="Run as a job").click()
    page.get_by_role("region", name="Progress of the job").get_by_text("succeeded").wait_for(timeout=60_000)
    shoot(page, "job")


def shoot(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle")
    page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")


if __name__ == "__main__":
    main()
