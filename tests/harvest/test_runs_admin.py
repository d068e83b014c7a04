"""Crons in the admin: their state, their next run, and pausing and resuming them."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from harvest.exceptions import CronUnknown
from harvest.models import CronState, HarvestRun
from harvest.runs import pause_cron, resume_cron
from harvest.selectors import cron_standings
from quota.models import Consumer
from quota.services.reservations import reserve
from tests.enrichment.staff import STAFF_GROUPS, member
from tests.fixtures import NOON

pytestmark = pytest.mark.usefixtures("defaults")
CRONS = "admin:harvest_cronstate_changelist"


def due(name: str) -> str:
    state = CronState.objects.get(name=name)
    due_at = cron_standings([state])[name].due_at
    return f"{due_at:%d %H:%M}" if due_at else "never"


def test_the_next_run_follows_from_the_schedule_and_the_last_tick() -> None:
    assert (due("new-releases"), due("open-ledger")) == ("06 03:10", "05 12:01")
    CronState.objects.filter(name="expire-leases").update(last_tick_at=NOON + timedelta(seconds=90))
    assert due("expire-leases") == "05 12:02"
    CronState.objects.filter(name="new-releases").update(last_tick_at=NOON - timedelta(days=3))
    assert due("new-releases") == "05 12:00"  # overdue
    PeriodicTask.objects.filter(name="new-releases").delete()
    assert due("new-releases") == "never"


def test_pausing_switches_the_schedule_off_and_notifies_beat() -> None:
    changed_at = PeriodicTasks.objects.get().last_update
    PeriodicTask.objects.filter(name="new-releases").update(last_run_at=NOON)
    assert (pause_cron("new-releases"), pause_cron("new-releases")) == (1, 0)
    task = PeriodicTask.objects.get(name="new-releases")
    assert (task.enabled, task.last_run_at, due("new-releases")) == (False, None, "never")
    assert PeriodicTasks.objects.get().last_update > changed_at
    assert (resume_cron("new-releases"), due("new-releases")) == (1, "06 03:10")
    assert PeriodicTask.objects.filter(enabled=False).count() == 0
    with pytest.raises(CronUnknown):
        pause_cron("no-such-cron")


@pytest.mark.parametrize("group", STAFF_GROUPS)
@pytest.mark.slow
def test_operators_pause_and_resume_and_viewers_only_look(client: Client, group: str) -> None:
    client.force_login(member(group))
    pause, resume = (
        reverse(f"admin:harvest_cronstate_{act}_one", args=["new-releases"]) for act in ("pause", "resume")
    )
    change = reverse("admin:harvest_cronstate_change", args=["new-releases"])
    may = group != "viewers"
    page = client.get(change)
    assert ("scheduled" in page.text, pause in page.text, resume in page.text) == (True, may, False)
    client.post(pause, {"_form_submitted": "True"})  # without the reason
    assert PeriodicTask.objects.get(name="new-releases").enabled
    answer = client.post(pause, {"_form_submitted": "True", "reason": "ISBNdb moves house"})
    assert answer.status_code == (302 if may else 403)
    assert PeriodicTask.objects.get(name="new-releases").enabled is not may
    stale = client.post(pause, {"_form_submitted": "True", "reason": "again"}, follow=True)
    assert (stale.status_code, "0 crons paused." in stale.text) == ((200, True) if may else (403, False))
    chosen = {"action": "resume", "_selected_action": ["new-releases", "open-ledger"]}
    client.post(reverse(CRONS), chosen)
    assert PeriodicTask.objects.get(name="new-releases").enabled
    said = list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
    assert said == (["Paused. Reason: ISBNdb moves house", "Resumed."] if may else [])


def test_the_list_of_crons_needs_a_fixed_number_of_queries(admin_client: Client, django_assert_max_num_queries) -> None:
    with django_assert_max_num_queries(14):
        page = admin_client.get(reverse(CRONS))
    assert "2026-05-06 03:10:00" in page.text
    assert "every 2 seconds" in page.text


@pytest.mark.slow
def test_a_run_shows_its_outcome_its_duration_and_its_calls(admin_client: Client) -> None:
    run = HarvestRun.objects.create(
        cron="update-feed",
        outcome="stopped",
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=75),
        calls=2,
        books=1500,
        reason="floor: " + "long " * 40,
    )
    HarvestRun.objects.create(cron="update-feed", started_at=NOON)
    Consumer.objects.filter(slug="cron-update-feed").update(floor=0)
    reservation = reserve(consumer="cron-update-feed", operation="feed", calls=2, source=f"run:{run.pk}")
    text = admin_client.get(reverse("admin:harvest_harvestrun_changelist")).text
    for said in ("ended early by the quota", "1 min 15 s", "750.0", "running", "…"):
        assert said in text
    detail = admin_client.get(reverse("admin:harvest_harvestrun_change", args=[run.pk])).text
    assert "ended early by the quota" in detail
    spent = f"{reverse('admin:quota_reservation_changelist')}?source=run:{run.pk}"
    assert spent in text
    page = admin_client.get(spent)
    assert [row.pk for row in page.context["cl"].result_list] == [reservation]
