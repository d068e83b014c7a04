"""The dashboard: it shows the figures of the API, only to permitted users, and stays cheap with a long history."""

import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.test import APIClient

from alexandria.alerts.models import Alert
from alexandria.api.bodies import FORM
from alexandria.development.sandbox.server import Sandbox
from enrichment.jobs.lifecycle import create_job
from enrichment.models import Edition, Job, QueuedIsbn, QueueState
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.services.enrich import enrich_isbns
from enrichment.services.queue import enqueue
from harvest.models import CronState, HarvestRun
from quota.exceptions import QuotaRefused
from quota.models import Call, Consumer, ConsumerKey, DailyLedger, Switches
from quota.prices import RequestKind
from quota.selectors.dashboard import burn_rate
from quota.selectors.status import get_status
from quota.services import reservations
from tests.alexandria.admin import long_history
from tests.fixtures import NOON, At, SetClock, known_isbns

INDEX, FRAGMENT = "/admin/", "/admin/dashboard/"
BIG = ("quota_call", "quota_reservation", "quota_refusal")


@pytest.fixture
def viewer(transactional_db: None) -> Client:
    """A user who can view everything and change nothing."""
    importlib.import_module("alexandria.migrations.0001_groups").make_groups(apps, None)
    user = User.objects.create_user("viewer", is_staff=True)
    user.groups.add(Group.objects.get(name="viewers"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def onlooker(transactional_db: None) -> Client:
    """A staff user without a group."""
    client = Client()
    client.force_login(User.objects.create_user("onlooker", is_staff=True))
    return client


def send(
    outcome: Call.Outcome, *, consumer: str = "reader", asked: int | None = None, found: int | None = None
) -> None:
    _, _, call = reservations.reserve_and_dispatch(
        consumer=consumer,
        operation="shelf",
        calls=1,
        kind=RequestKind.BATCH,
        method="POST",
        path="/books",
        isbns_asked=asked,
    )
    assert isinstance(call, reservations.DispatchedCall)
    reservations.record(call, outcome, isbns_found=found)


@pytest.fixture
def busy_day(consumer: Consumer, set_clock: SetClock) -> None:
    """Yesterday 4 calls; today 3 sent at 11:30, 3 at noon, 7 made outside, 5 of 6 still reserved, and a refusal."""
    Consumer.objects.create(slug="other", cap_per_operation=8)
    set_clock(NOON - timedelta(days=1))
    reservations.increment(4, consumer="other")
    set_clock(NOON - timedelta(minutes=30))
    for _ in range(3):
        send(Call.Outcome.OK, asked=1_000, found=900)
    set_clock(NOON)
    send(Call.Outcome.TIMEOUT, consumer="other", asked=1_000)
    send(Call.Outcome.OK, found=50)
    reservations.increment(7)
    held = reservations.reserve(consumer="other", operation="held", calls=6)
    reservations.dispatch(held, kind=RequestKind.PAGE, method="GET", path="/author/x")
    with pytest.raises(QuotaRefused):
        reservations.reserve(consumer="other", operation="too much", calls=9)


def links(page: Any) -> set[str]:
    return {link.replace("&amp;", "&") for link in re.findall(r'<a\s[^>]*?href="(/admin/[^"]*)"', page.text)}


def test_a_log_in_without_a_target_leads_to_the_dashboard(transactional_db: None, client: Client) -> None:
    User.objects.create_user("viewer", password="as-good-as-any", is_staff=True)
    form = urlencode({"username": "viewer", "password": "as-good-as-any"})
    entered = client.post("/admin/login/", form, content_type=FORM)
    assert (entered.status_code, entered["Location"]) == (302, INDEX)


def test_the_figures_equal_those_of_the_api(busy_day: None, viewer: Client, api: APIClient) -> None:
    ConsumerKey.objects.update(sees_all=True)
    page, fragment = viewer.get(INDEX), viewer.get(FRAGMENT)
    expected, history = api.get("/api/quota/status").json(), api.get("/api/quota/history", {"days": 30}).json()["days"]
    for shown in (page, fragment):
        status = shown.context["status"]
        for name in ("daily_limit", "safety_limit", "used", "reserved", "remaining", "percentage_used", "requests"):
            assert getattr(status, name) == expected[name], name
        assert [part.amount for part in shown.context["parts"]] == [13, 5, 12_982, 2_000]
        rows = shown.context["month"].rows
        names = [series.name for series in shown.context["month"].series]
        assert [(str(row.at), row.total, row.limit) for row in rows] == [
            (day["day"], day["used"], day["safety_limit"]) for day in history
        ]
        for row, day in zip(rows, history, strict=True):
            assert {name: calls for name, calls in zip(names, row.cells, strict=True) if calls} == {
                usage["consumer"]: usage["used"] for usage in day["consumers"]
            }
        assert '<strong class="alx-big">13</strong> of 13,000 used' in shown.text
        assert "6 requests sent. A batch costs 1 call (set by ISBNDB_BATCH_PRICE)." in shown.text
    assert "<title>" not in fragment.text


def test_the_chart_of_the_day_shows_each_consumer_in_ten_minutes(busy_day: None, viewer: Client) -> None:
    context = viewer.get(FRAGMENT).context
    day, today = context["day"], context["quota"].today
    assert [(series.name, series.colour) for series in day.series] == [("other", 1), ("reader", 2)]
    assert [series.name for series in context["month"].series] == ["external", "other", "reader"]
    assert [(f"{row.at:%H:%M}", row.total, row.cells) for row in day.rows] == [
        ("11:30", 3, [0, 3]),
        ("12:00", 3, [2, 1]),
    ]
    drawn = {series["name"]: series["values"] for series in day.drawn["series"]}
    assert (drawn["reader"][69], len(drawn["reader"])) == (0.3, 144)
    assert (today.sent, today.entered, today.books, today.books_per_call) == (6, 7, 2_750, 2_750 / 6)
    assert (today.isbns_asked, today.isbns_found, today.hit_rate) == (4_000, 2_700, 0.675)
    assert today.errors == {Call.Outcome.TIMEOUT: 1}
    assert context["quota"].burn.per_hour == 6


def test_the_line_of_the_safety_limits_is_drawn_only_while_it_does_not_press_the_bars_flat(
    consumer: Consumer, viewer: Client, at: At
) -> None:
    reservations.increment(6_500)
    far = viewer.get(FRAGMENT)
    assert "limit" not in far.context["month"].drawn
    assert "The safety limit, 13,000 calls today, is far above the bars." in far.text
    reservations.increment(1)
    near = viewer.get(FRAGMENT)
    assert near.context["month"].drawn["limit"][-1] == 13_000
    assert "The line is the safety limit of each day." in near.text


@pytest.mark.parametrize(("used", "said"), [(0, "0 %"), (1, "less than 1 %"), (130, "1 %"), (12_999, "99 %")])
def test_a_little_is_less_than_one_per_cent(consumer: Consumer, viewer: Client, at: At, used: int, said: str) -> None:
    if used:
        reservations.increment(used)
    assert f"of 13,000 used\n        ({said})" in viewer.get(FRAGMENT).text


def test_the_dashboard_counts_the_books_that_are_stored_and_those_that_are_new_today(
    consumer: Consumer, viewer: Client, set_clock: SetClock, sandbox: Sandbox
) -> None:
    old, changed, new, waits = known_isbns(4)
    enrich_isbns([old, changed, new], consumer="reader")
    Edition.objects.filter(pk__in=[old, changed]).update(created_at=NOON - timedelta(days=1))
    Edition.objects.filter(pk=old).update(updated_at=NOON - timedelta(days=1))
    enqueue([waits], priority=QueuedIsbn.Priority.LOW, consumer="reader")
    QueuedIsbn.objects.create(isbn13=old, asked_at=NOON, attempts=MAX_ATTEMPTS)  # given up
    page = viewer.get(FRAGMENT)
    catalogue = page.context["catalogue"]
    assert (catalogue.books, catalogue.is_exact, catalogue.new_today, catalogue.queued) == (3, True, 1, 1)
    words = " ".join(page.text.split())
    assert "<strong>3</strong> 1 new today" in words
    assert "<strong>1</strong> ISBN waits" in words


def test_by_the_isbn_errors_are_counted_by_requests_and_books_by_calls(
    consumer: Consumer, viewer: Client, settings
) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    send(Call.Outcome.TIMEOUT, asked=600)
    send(Call.Outcome.OK, asked=400, found=250)
    page = viewer.get(FRAGMENT)
    today = page.context["quota"].today
    assert (today.sent, today.requests, today.errors) == (1_000, 2, {Call.Outcome.TIMEOUT: 1})
    assert "250 books for 1,000 calls, in 2 requests" in page.text
    assert "2 requests sent. A batch costs 1 call for each ISBN (set by ISBNDB_BATCH_PRICE)." in page.text


@pytest.mark.slow
def test_problems_and_running_work_link_to_their_pages(busy_day: None, viewer: Client) -> None:
    reader = Consumer.objects.get(slug="reader")
    job = create_job(consumer=reader, kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": known_isbns(3)})
    run = HarvestRun.objects.create(cron="cron-x", started_at=NOON)
    CronState.objects.create(name="cron-x", run=run, lease_until=NOON + timedelta(minutes=15))
    page = viewer.get(INDEX)
    kinds = [(row.kind, row.who, row.done, row.total) for row in page.context["running"].rows]
    assert kinds[:2] == [("job", "reader", 0, 3), ("cron", "cron-x", None, None)]
    assert {row.kind for row in page.context["running"].rows[2:]} == {"reservation"}
    assert "1 of 6 calls spent" in page.text
    found = links(page)
    assert {
        reverse("admin:enrichment_job_change", args=[job.pk]),
        reverse("admin:harvest_harvestrun_change", args=[run.pk]),
        reverse("admin:quota_dailyledger_change", args=["2026-05-04"]),
    } < found
    timeouts = next(link for link in found if "outcome__exact=timeout" in link)
    refusals = next(link for link in found if "limit__exact=cap_per_operation" in link)
    for link in (timeouts, refusals):
        assert len(viewer.get(link).context["cl"].result_list) == 1
    for link in found - {item["link"] for group in page.context["sidebar_navigation"] for item in group["items"]}:
        assert viewer.get(link, follow=True).status_code == 200, link


def test_the_dashboard_works_on_the_first_day(viewer: Client, at: At) -> None:
    page = viewer.get(INDEX)
    assert (page.status_code, DailyLedger.objects.count()) == (200, 0)
    for said in (
        '<strong class="alx-big">0</strong> of 13,000 used',
        "No request was sent today.",
        "There is no ledger yet.",
        "Nothing is running.",
        "No ISBN was requested yet.",
        "It was not read yet.",
        "12 h 00 min",
        "No worker processes the queue",
        "As of",
        "12:00:00 UTC",
    ):
        assert said in page.text
    assert "<canvas" not in page.text


@pytest.mark.slow
def test_users_see_nothing_that_they_cannot_open(busy_day: None, onlooker: Client, client: Client) -> None:
    page = onlooker.get(INDEX)
    assert "You cannot see the dashboard yet" in page.text
    assert "13,000" not in page.text
    assert {link for link in links(page) if link.startswith(("/admin/quota", "/admin/enrichment"))} == set()
    assert onlooker.get(FRAGMENT).status_code == 403
    assert client.get(FRAGMENT).status_code == 302
    User.objects.get(username="onlooker").user_permissions.add(Permission.objects.get(codename="view_dailyledger"))
    page = onlooker.get(INDEX)
    assert '<strong class="alx-big">13</strong> of 13,000 used' in page.text
    assert page.context["running"].rows == []
    for link in links(page):
        assert onlooker.get(link, follow=True).status_code == 200, link


@pytest.mark.slow
def test_every_link_in_the_sidebar_opens(viewer: Client, admin_client: Client, consumer: Consumer) -> None:
    for client in (viewer, admin_client):
        groups = client.get(INDEX).context["sidebar_navigation"]
        for item in (item for group in groups for item in group["items"]):
            assert client.get(item["link"], follow=True).status_code == 200, item["title"]
    assert [group.get("title") for group in groups] == [None, "Quota", "Books", "Work", "Alerts", "Staff"]
    assert "Users" not in str(viewer.get(INDEX).context["sidebar_navigation"])


@pytest.mark.parametrize(
    ("path", "title"),
    [("", "Dashboard"), ("enrichment/job/", "Jobs"), ("enrichment/job/your-lists/", "Your lists")],
)
def test_the_sidebar_marks_the_page_that_is_open(viewer: Client, path: str, title: str) -> None:
    groups = viewer.get(f"/admin/{path}").context["sidebar_navigation"]
    assert [item["title"] for group in groups for item in group["items"] if item["active"]] == [title]


@pytest.mark.slow
def test_notices_show_what_stops_calls(viewer: Client, consumer: Consumer, settings) -> None:
    QueueState.objects.create(looked_at=NOON + timedelta(hours=1))

    def said() -> list[str]:
        return [notice.text for notice in viewer.get(FRAGMENT).context["alerts"]]

    def badge() -> Any:
        return viewer.get(INDEX).context["environment"]

    settings.ISBNDB_BASE_URL = "https://api.premium.isbndb.com"
    assert (said(), badge()) == ([], None)
    settings.ISBNDB_BASE_URL = "http://127.0.0.1:8001"
    assert badge() == ["sandbox", "info"]
    Switches.objects.create(harvest_enabled=False, enforcement="observe")
    assert badge() == ["observe mode, harvest off, sandbox", "warning"]
    _, _, call = reservations.reserve_and_dispatch(
        consumer="reader", operation="x", calls=1, kind=RequestKind.PAGE, method="GET", path="/author/x"
    )
    assert isinstance(call, reservations.DispatchedCall)
    reservations.close_day(call, reason="ISBNdb said so.")
    closed, observing, off = said()
    assert closed == "The day is closed. ISBNdb said so."
    assert observing.startswith("Observe mode")
    assert off.startswith("Harvesting is switched off")
    for percent in (80, 95, 50):
        Alert.objects.create(
            key=f"usage:2026-05-05:{percent}",
            rule="usage",
            severity="warning",
            title=f"{percent} % are used",
            opened_at=NOON,
            last_seen_at=NOON,
        )
    assert [text[:13] for text in said() if "are used" in text] == ["95 % are used"]
    Alert.objects.all().delete()
    Switches.objects.all().delete()
    assert said()[1].startswith("Today's quota is used up or closed")


@pytest.mark.parametrize(
    ("at", "used", "last_hour", "per_hour", "runs_out_at", "left"),
    [
        (datetime(2026, 5, 5, 0, 4, tzinfo=UTC), 100, 100, None, None, None),
        (datetime(2026, 5, 5, 0, 30, tzinfo=UTC), 100, 100, 200, None, 13_000 - 100 - 4_700),
        (NOON, 1_000, 900, 900, None, 1_200),
        (NOON, 1_000, 2_400, 2_400, NOON + timedelta(hours=5), None),
        (NOON, 1_000, 1_000, 1_000, datetime(2026, 5, 6, tzinfo=UTC), None),
        (NOON, 13_000, 900, 900, None, None),
        (NOON, 1_000, 0, 0, None, 12_000),
    ],
)
def test_the_forecast_uses_the_rate_of_the_last_hour(
    at: datetime, used: int, last_hour: int, per_hour: int, runs_out_at: datetime, left: int, set_clock: SetClock
) -> None:
    status = replace(get_status(), used=used, now=at)
    burn = burn_rate(status, last_hour=last_hour)
    assert (burn.per_hour, burn.runs_out_at, burn.left_at_reset) == (per_hour, runs_out_at, left)


def plan_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from plan_nodes(child)


def reads_one_day_at_most(sql: str) -> None:
    """Each big table is read by an index, without a row too many: a day has at most 60 rows in it."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        (plan,) = cursor.fetchone()
    for node in plan_nodes(plan[0]["Plan"]):
        if node.get("Relation Name") in BIG:
            assert node["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Heap Scan"), sql
            assert node["Actual Rows"] <= 60, sql
            assert node.get("Rows Removed by Filter", 0) == 0, sql


@pytest.mark.slow
def test_a_year_of_history_needs_few_queries_that_read_at_most_one_day(
    viewer: Client, set_clock: SetClock, consumer: Consumer
) -> None:
    payers = [consumer.pk, *(Consumer.objects.create(slug=f"payer-{number}").pk for number in range(9))]
    long_history.fill(today=NOON.date(), consumers=payers, days=400, calls_a_day=60, rows_a_day=20)
    reservations.reserve(consumer="reader", operation="open", calls=1)
    QueueState.objects.create(looked_at=NOON + timedelta(hours=1))
    for address in (INDEX, FRAGMENT):
        with CaptureQueriesContext(connection) as captured:
            page = viewer.get(address)
        assert page.context["status"].used == page.context["quota"].today.sent == 31
        assert len(page.context["month"].rows) == 30
        assert page.context["month"].series[-1].name == "others"
        assert len(captured) + 1 <= 21  # the status uses a connection that Django does not count
        for query in captured:
            if query["sql"].startswith("SELECT") and any(table in query["sql"] for table in BIG):
                reads_one_day_at_most(query["sql"])


@pytest.mark.slow
def test_the_page_still_opens_when_the_database_does_not_answer(viewer: Client, set_clock: SetClock) -> None:
    def ask(address: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        return viewer.get(address)

    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE quota_refusal")
    try:
        refreshed, page = ask(FRAGMENT), ask(INDEX)
    finally:
        other.close()
    assert (refreshed.status_code, page.status_code) == (503, 200)
    assert "did not answer in time. The figures appear as soon as it answers." in page.text
    assert ask(FRAGMENT).status_code == 200


@pytest.mark.slow
def test_no_page_loads_anything_from_another_host(busy_day: None, admin_client: Client, client: Client) -> None:
    addresses = [INDEX, "/admin/quota/call/", "/admin/quota/consumer/add/", "/admin/auth/user/"]
    for page in (client.get("/admin/login/"), *(admin_client.get(address) for address in addresses)):
        assert page.status_code == 200
        loaded = re.findall(r'<(?:link|script|img|iframe|source)\b[^>]*?\s(?:src|href)="([^"]*)"', page.text)
        assert len(loaded) > 5
        assert [found for found in loaded if re.match(r"(?:[a-z]+:)?//", found)] == []
