"""services.corrections.reopen_day, and the command and admin page that call it: a person opens a closed day again."""

import json
from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from quota.exceptions import CorrectionRefused, QuotaRefused
from quota.models import DailyLedger, Reopening
from quota.selectors.status import get_status
from quota.services import reservations
from quota.services.corrections import reopen_day
from tests.fixtures import NOON, SetClock

DAY_PAGE = "/admin/quota/dailyledger/2026-05-05/change/"
REOPEN = reverse("admin:quota_dailyledger_reopen", args=["2026-05-05"])
WHY = {"reason": "We bought a larger plan.", "_form_submitted": "True"}


@pytest.fixture(autouse=True)
def closed_day(consumer: None) -> None:
    reservations.open_ledger()
    DailyLedger.objects.update(closed_at=NOON, closed_reason="Daily quota exceeded")


def test_a_person_opens_a_closed_day_again_and_the_record_says_who_when_and_why(admin_user: User) -> None:
    with pytest.raises(QuotaRefused):
        reservations.reserve(consumer="reader", operation="test", calls=1)
    made = reopen_day(reason=" We bought a larger plan. ", made_with="a test", made_by=admin_user)
    assert reservations.reserve(consumer="reader", operation="test", calls=1)
    assert get_status().closed_reason is None
    stored = Reopening.objects.get()
    assert stored == made
    assert (stored.closed_at, stored.closed_reason) == (NOON, "Daily quota exceeded")
    assert (stored.reason, stored.made_by, stored.made_with) == ("We bought a larger plan.", admin_user, "a test")
    assert timedelta() <= stored.reopened_at - NOON < timedelta(minutes=1)


def test_without_a_reason_the_day_stays_closed() -> None:
    with pytest.raises(CorrectionRefused, match="reason"):
        reopen_day(reason=" ", made_with="a test")
    assert not get_status().can_make_calls


def test_an_open_day_cannot_be_opened() -> None:
    reopen_day(reason="a test", made_with="a test")
    with pytest.raises(CorrectionRefused, match="not closed"):
        reopen_day(reason="a test", made_with="a test")
    assert Reopening.objects.count() == 1


def test_a_day_that_is_over_stays_closed(set_clock: SetClock) -> None:
    set_clock(NOON + timedelta(days=1))
    reservations.open_ledger()
    with pytest.raises(CorrectionRefused):
        reopen_day(reason="a test", made_with="a test")
    assert DailyLedger.objects.get(day=NOON.date()).closed_at == NOON


def test_the_command_opens_the_day_and_prints_why_it_was_closed(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("quota_reopen", "--reason=a larger plan")
    said = "2026-05-05 is open again. It was closed at 2026-05-05 12:00 UTC: Daily quota exceeded\n"
    assert capsys.readouterr().out == said
    assert Reopening.objects.get().made_with.startswith("manage.py quota_reopen, run by ")
    with pytest.raises(CommandError, match="not closed"):
        call_command("quota_reopen", "--reason=again")
    DailyLedger.objects.update(closed_at=NOON, closed_reason="Daily quota exceeded")
    call_command("quota_reopen", "--reason=again", "--json")
    figures = json.loads(capsys.readouterr().out)
    assert (figures["day"], figures["closed_at"]) == ("2026-05-05", "2026-05-05T12:00:00Z")


def test_the_page_of_the_day_opens_it_with_a_reason_and_then_shows_who_did_it(admin_client: Client) -> None:
    page = admin_client.get(DAY_PAGE).text
    assert "Open the day again" in page
    assert "0 free" in page
    assert "closed: <strong>13,000</strong>" in page
    admin_client.post(REOPEN, {"_form_submitted": "True"})
    assert not get_status().can_make_calls, "a reason is required"
    admin_client.post(REOPEN, WHY)
    assert get_status().can_make_calls
    assert LogEntry.objects.get().change_message == "Opened the closed day again. Reason: We bought a larger plan."
    page = admin_client.get(DAY_PAGE).text
    assert "by admin: We bought a larger plan." in page
    assert "Open the day again" not in page
    again = admin_client.post(REOPEN, WHY, follow=True)
    assert "not closed" in again.text


@pytest.mark.parametrize(("group", "may"), [("operators", False), ("managers", True)])
def test_managers_may_open_a_day_again_and_operators_may_not(*, group: str, may: bool) -> None:
    import_module("alexandria.migrations.0001_groups").make_groups(apps, None)
    user = User.objects.create_user(group, is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    assert ("Open the day again" in client.get(DAY_PAGE).text) is may
    client.post(REOPEN, WHY)
    assert get_status().can_make_calls is may
