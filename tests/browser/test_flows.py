"""The tasks of staff in a browser, from the first page to the last. Elements are found by their visible text."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.urls import reverse
from playwright.sync_api import Locator, Page, expect

from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition, Job, JobAuthor
from enrichment.models.jobs import BULK_AUTHOR, STAFF
from quota.models import Consumer, ConsumerKey, Reservation
from quota.prices import RequestKind
from quota.services import reservations
from tests import processes
from tests.browser.steps import flaws, sign_in
from tests.fixtures import SetClock, known_isbns, unknown_isbns

pytestmark = pytest.mark.slow

REASON = "Asked for by the reading room."
JOB_PATIENCE = 60_000  # milliseconds


@pytest.fixture
def reader(tables: None, set_clock: SetClock) -> Consumer:
    """A consumer that has used 5 calls and reserved 4."""
    consumer = Consumer.objects.create(slug="reader")
    reservations.reserve_and_dispatch(
        consumer="reader", operation="shelf", calls=1, kind=RequestKind.BATCH, method="POST", path="/books"
    )
    reservations.increment(4, consumer="reader")
    reservations.reserve(consumer="reader", operation="stuck", calls=4)
    return consumer


def key_of(consumer: Consumer) -> str:
    return ConsumerKey.objects.create_key(name="desk", consumer=consumer)[1]


def status(tab: Page, key: str) -> int:
    """The HTTP status of a request to the API with a key."""
    return tab.request.get("/api/quota/status", headers={"Authorization": f"Api-Key {key}"}).status


def row(tab: Page, words: str) -> Locator:
    return tab.get_by_role("row").filter(has_text=words)


def test_the_dashboard_shows_the_figures_of_the_api(reader: Consumer, admin_tab: Page) -> None:
    expected = admin_tab.request.get("/api/quota/status", headers={"Authorization": f"Api-Key {key_of(reader)}"}).json()
    assert (expected["used"], expected["reserved"]) == (5, 4)
    admin_tab.goto(reverse("admin:index"))
    today = admin_tab.get_by_role("region", name="Calls of today")
    expect(today).to_contain_text(f"{expected['used']} of {expected['safety_limit']:,} used")
    expect(today).to_contain_text(f"{expected['remaining']:,} free")
    today.get_by_text("as a table").click()
    parts = {"used": expected["used"], "reserved": expected["reserved"], "free": expected["remaining"]}
    for part, calls in parts.items():
        figures = today.get_by_role("row").filter(has=admin_tab.get_by_role("rowheader", name=re.compile(f"^{part}")))
        expect(figures.get_by_role("cell").first).to_have_text(f"{calls:,}")
    assert flaws(admin_tab) == []


def test_the_first_screen_of_the_dashboard_has_the_gauge_the_tiles_four_in_a_row_and_a_chart(
    reader: Consumer, admin_tab: Page
) -> None:
    admin_tab.set_viewport_size({"width": 1440, "height": 900})
    admin_tab.goto(reverse("admin:index"))
    needs_attention = admin_tab.get_by_role("list", name="Needs attention")
    pushed_down = needs_attention.evaluate("it => it.getBoundingClientRect().height + 16")
    chart = admin_tab.get_by_role("img", name="Stacked bars: Calls a minute today").bounding_box()
    assert chart is not None
    assert chart["y"] + chart["height"] - pushed_down <= 900
    tops = admin_tab.locator(".alx-tiles > div").evaluate_all("all => all.map(it => it.getBoundingClientRect().top)")
    assert len(set(tops[:4])) == 1
    assert tops[4] > tops[3]


def test_the_dashboard_leads_to_the_calls_of_a_consumer(reader: Consumer, admin_tab: Page) -> None:
    admin_tab.goto(reverse("admin:index"))
    month = admin_tab.get_by_role("region", name="Calls a day")
    month.get_by_text("as a table").click()
    month.get_by_role("link", name="2026-05-05").click()
    expect(admin_tab.get_by_text("5 of 13,000 calls used")).to_be_visible()
    admin_tab.get_by_role("region", name="By consumer").get_by_role("link", name="reader").click()
    expect(admin_tab).to_have_url(re.compile("consumer__id__exact"))
    expect(row(admin_tab, "shelf")).to_contain_text("/books")
    assert flaws(admin_tab) == []


def test_pasted_isbns_run_as_a_job(
    tables: None, set_clock: SetClock, isbndb: Sandbox, admin_tab: Page, tmp_path: Path
) -> None:
    Consumer.objects.get_or_create(slug=STAFF)
    known = known_isbns(3)
    admin_tab.goto(reverse("admin:check_isbns"))
    admin_tab.get_by_label("ISBNs", exact=True).fill("\n".join([*known, known[0], *unknown_isbns(1), "nonsense"]))
    admin_tab.get_by_role("button", name="Check").click()
    expect(admin_tab.get_by_text("1 call in 1 request", exact=True)).to_be_visible()
    assert flaws(admin_tab) == []
    assert isbndb.spent == 0
    worker = processes.start("jobs", tmp_path / "jobs.log")
    try:
        admin_tab.get_by_role("button", name="Run as a job").click()
        progress = admin_tab.get_by_role("region", name="Progress of the job")
        expect(progress).to_contain_text("succeeded", timeout=JOB_PATIENCE)
    finally:
        processes.kill(worker)
    expect(progress).to_contain_text("100 %")
    assert flaws(admin_tab) == []
    assert set(Edition.objects.values_list("isbn13", flat=True)) == set(known)
    assert (Job.objects.get().state, isbndb.spent) == ("succeeded", 1)


def test_a_stuck_reservation_is_released_with_a_reason(reader: Consumer, admin_tab: Page) -> None:
    admin_tab.goto(reverse("admin:quota_reservation_changelist"))
    row(admin_tab, "stuck").get_by_role("checkbox").check()
    admin_tab.get_by_label("Select action to run").select_option(label="Release calls that were not dispatched")
    admin_tab.get_by_role("button", name="Run").click()
    expect(admin_tab.get_by_role("heading", name="Release 4 calls?")).to_be_visible()
    assert flaws(admin_tab) == []
    admin_tab.get_by_label("Reason").fill(REASON)
    admin_tab.get_by_role("button", name="Release").click()
    expect(admin_tab.get_by_text("Released 4 calls of 1 reservation.")).to_be_visible()
    assert Reservation.objects.get(operation="stuck").state == "settled"
    admin_tab.goto(reverse("admin:quota_reservation_history", args=[Reservation.objects.get(operation="stuck").pk]))
    expect(admin_tab.get_by_text(REASON)).to_be_visible()


def test_a_key_is_rotated_and_the_new_key_is_shown_once(reader: Consumer, admin_tab: Page) -> None:
    old = key_of(reader)
    admin_tab.goto(reverse("admin:quota_consumer_change", args=[reader.pk]))
    admin_tab.get_by_role("link", name="Rotate").click()
    admin_tab.get_by_label("Reason").fill(REASON)
    assert flaws(admin_tab) == []
    admin_tab.get_by_role("button", name="Rotate").click()
    new = admin_tab.get_by_label("Key", exact=True).input_value()
    assert flaws(admin_tab) == []
    assert (status(admin_tab, new), status(admin_tab, old)) == (200, 401)
    admin_tab.goto(reverse("admin:quota_consumer_change", args=[reader.pk]))
    assert new not in admin_tab.content()


def test_viewers_can_look_but_change_nothing(reader: Consumer, tab: Page, site: str) -> None:
    import_module("alexandria.migrations.0001_groups").make_groups(apps, None)
    key_of(reader)
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.groups.add(Group.objects.get(name="viewers"))
    sign_in(tab, viewer, site=site)
    tab.goto(reverse("admin:index"))
    expect(tab.get_by_role("region", name="Calls of today")).to_contain_text("5 of 13,000 used")
    tab.goto(reverse("admin:quota_reservation_changelist"))
    expect(row(tab, "stuck")).to_be_visible()
    expect(tab.get_by_label("Select action to run")).to_have_count(0)
    consumer = reverse("admin:quota_consumer_change", args=[reader.pk])
    tab.goto(consumer)
    expect(tab.get_by_text("desk").first).to_be_visible()
    expect(tab.get_by_role("link", name="Rotate")).to_have_count(0)
    expect(tab.get_by_role("button", name="Save", exact=True)).to_have_count(0)
    prefix = ConsumerKey.objects.get().prefix
    for page in (
        reverse("admin:quota_consumer_add"),
        reverse("admin:quota_consumer_key_rotate", args=[reader.pk, prefix]),
        reverse("admin:quota_adjustment_add"),
        reverse("admin:auth_user_changelist"),
    ):
        assert tab.request.get(page).status == 403, page


def test_pasted_authors_are_started_as_a_bulk_harvest_and_each_is_shown(
    tables: None, set_clock: SetClock, admin_tab: Page
) -> None:
    Consumer.objects.create(slug=BULK_AUTHOR, kind="bulk", floor=2_000)
    admin_tab.goto(reverse("admin:enrichment_job_changelist"))
    admin_tab.get_by_role("link", name="New bulk harvest").first.click()
    assert flaws(admin_tab) == []
    admin_tab.get_by_label("Authors", exact=True).fill("Ada Brandvold\nAndy Weir\nWeir, Andy\n9780441172719")
    admin_tab.get_by_role("button", name="Show the cost").click()
    expect(admin_tab.get_by_text("Ada Brandvold; Andy Weir")).to_be_visible()
    expect(admin_tab.get_by_text("20 calls", exact=True)).to_be_visible()
    expect(row(admin_tab, "9780441172719")).to_be_visible()
    assert flaws(admin_tab) == []
    admin_tab.get_by_role("button", name="Start the harvest").click()
    progress = admin_tab.get_by_role("region", name="Progress of the job")
    expect(progress).to_contain_text("0 of 2 authors done (0 %)")
    figures = {"found": 15, "new": 1, "changed": 2, "unchanged": 3, "already_fresh": 4, "failed": 5}
    JobAuthor.objects.filter(position=1).update(state="done", pages=1, calls=1, **figures)
    Job.objects.update(done=1)
    expect(progress).to_contain_text("1 of 2 authors done (50 %)")  # the page refreshes itself
    assert flaws(admin_tab) == []
    admin_tab.get_by_role("link", name="Pause").click()
    admin_tab.get_by_role("button", name="Pause the job").click()
    expect(progress).to_contain_text("paused")
    assert Job.objects.get().state == "paused"
    progress.get_by_role("link", name="All authors").click()
    expect(row(admin_tab, "Ada Brandvold")).to_contain_text("15")
    assert flaws(admin_tab) == []
    admin_tab.goto(reverse("admin:enrichment_job_changelist"))
    expect(row(admin_tab, "pasted in the admin")).to_contain_text("1 of 2 authors")
    assert flaws(admin_tab) == []
