"""A switch takes effect at once in every process and has a history. Limits wait for the next day."""

import re
import subprocess
import sys
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection
from django.test import Client
from django.urls import reverse

from quota.exceptions import ConsumerInactive, HarvestSwitchedOff, LedgerNotOpen, QuotaRefused
from quota.models import Consumer, DailyLedger, Switches
from quota.prices import RequestKind
from quota.selectors.prices import price_of
from quota.selectors.status import effective_limits, get_status
from quota.services import reservations
from quota.services.corrections import apply_limits
from quota.spending import spending
from tests import processes
from tests.fixtures import NOON, SetClock, dispatched

PAGE = "/admin/quota/switches/1/change/"
NOTHING_SET = {
    "enforcement": "",
    "harvest_enabled": "on",
    "batch_price": "",
    "daily_limit": "",
    "safety_buffer": "",
    "max_rps": "",
    "reason": "a test",
}

pytestmark = pytest.mark.usefixtures("consumer")


def switch(**fields: object) -> None:
    Switches.objects.update_or_create(pk=1, defaults=fields)


def reserve(consumer: str = "reader", calls: int = 1) -> None:
    reservations.reserve(consumer=consumer, operation="test", calls=calls)


def test_without_a_row_the_environments_values_hold(settings) -> None:
    settings.QUOTA_DAILY_LIMIT = 77
    assert effective_limits().daily_limit == 77
    assert get_status().enforcement == "enforce"


def test_observing_refuses_nothing_from_the_moment_it_is_on_until_it_is_off(settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 2, 1
    reserve()
    with pytest.raises(QuotaRefused):
        reserve()
    switch(enforcement="observe")
    reserve()
    assert get_status().enforcement == "observe"
    switch(enforcement="enforce")
    with pytest.raises(QuotaRefused):
        reserve()


@pytest.mark.slow
def test_another_process_sees_a_switch_at_once() -> None:
    asks = (
        "import django; django.setup(); from quota.selectors.status import get_status; print(get_status().enforcement)"
    )
    switch(enforcement="observe")
    process = subprocess.run(
        [sys.executable, "-c", asks], env=processes.environment(), capture_output=True, text=True, check=True
    )
    assert process.stdout == "observe\n"


@pytest.mark.parametrize("kind", ["cron", "bulk"])
def test_while_harvesting_is_off_crons_and_bulk_work_are_refused_even_within_an_operation_and_clients_are_not(
    kind: str,
) -> None:
    Consumer.objects.create(slug="harvester", kind=kind)
    with spending(consumer="harvester", operation="test", calls=2) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        switch(harvest_enabled=False)
        with pytest.raises(HarvestSwitchedOff):
            dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    with pytest.raises(HarvestSwitchedOff):
        reserve("harvester")
    reserve("reader")
    switch(harvest_enabled=True)
    reserve("harvester")


def test_a_consumer_that_is_switched_off_cannot_dispatch_its_reserved_calls(consumer: Consumer) -> None:
    with spending(consumer="reader", operation="test", calls=2) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        Consumer.objects.update(active=False)
        with pytest.raises(ConsumerInactive):
            dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    assert (get_status().used, get_status().reserved) == (1, 0)


def test_new_limits_hold_from_the_next_day_and_today_only_when_they_are_applied(set_clock: SetClock) -> None:
    reservations.open_ledger()
    switch(daily_limit=500, safety_buffer=100, max_rps=7)
    assert get_status().safety_limit == 13_000
    apply_limits()
    assert (get_status().safety_limit, get_status().max_rps) == (400, 7)
    set_clock(NOON + timedelta(days=1))
    assert get_status().safety_limit == 400, "before the ledger is open, too"
    with pytest.raises(LedgerNotOpen):
        apply_limits()
    reservations.open_ledger()
    assert [ledger.safety_limit for ledger in DailyLedger.objects.all()] == [400, 400]


def test_a_buffer_of_0_in_the_switches_is_a_buffer_of_0() -> None:
    switch(safety_buffer=0)
    assert effective_limits().safety_buffer == 0
    assert get_status().safety_limit == get_status().daily_limit == 15_000


def test_a_limit_below_what_is_used_refuses_everything_and_takes_nothing_back() -> None:
    reservations.increment(50)
    switch(daily_limit=20, safety_buffer=10)
    apply_limits()
    status = get_status()
    assert (status.used, status.remaining, status.can_make_calls) == (50, 0, False)


def test_there_is_one_row_and_its_limits_make_sense(settings) -> None:
    with pytest.raises(IntegrityError):
        Switches.objects.create(pk=2)
    settings.QUOTA_SAFETY_BUFFER = 2_000
    with pytest.raises(ValidationError, match=r"safety buffer \(2,000\) must be less than the daily limit \(2,000\)"):
        Switches(daily_limit=2_000).full_clean()
    with pytest.raises(ValidationError, match="cannot be deleted"):
        Switches(pk=1).delete()


def test_a_buffer_that_a_deploy_raises_above_the_limit_leaves_one_call_a_day_and_an_error(settings, caplog) -> None:
    switch(daily_limit=1_500)
    settings.QUOTA_SAFETY_BUFFER = 1_500
    status = get_status()
    assert (status.safety_limit, status.percentage_used) == (1, 0)
    assert "quota.buffer_not_below_limit" in [record.msg["event"] for record in caplog.records]
    reserve()
    with pytest.raises(QuotaRefused):
        reserve()
    assert (DailyLedger.objects.get().safety_limit, apply_limits().safety_buffer) == (1, 1_499)


@pytest.mark.slow
def test_staff_change_the_switches_on_one_page_with_a_history(admin_client: Client) -> None:
    reservations.open_ledger()
    assert admin_client.get(reverse("admin:quota_switches_changelist")).headers["Location"] == PAGE
    answer = admin_client.post(PAGE, NOTHING_SET | {"daily_limit": "600", "safety_buffer": "600"})
    assert "must be less than the daily limit" in answer.content.decode()

    admin_client.post(PAGE, NOTHING_SET | {"daily_limit": "600", "safety_buffer": "100"})
    assert get_status().daily_limit == 15_000
    page = admin_client.post(
        PAGE, NOTHING_SET | {"daily_limit": "600", "safety_buffer": "100", "apply_to_today": "on"}, follow=True
    )
    assert "Today&#x27;s ledger now has these limits: 600 calls a day" in page.content.decode()
    assert get_status().safety_limit == 500
    changes = Switches.history.all()
    assert {change.history_user.get_username() for change in changes if change.history_user} == {"admin"}
    assert changes.count() == 3, "made, changed, changed"
    assert admin_client.get("/admin/quota/switches/1/history/").status_code == 200


def test_staff_set_the_price_of_a_batch_and_see_the_price_in_force_and_its_origin(
    admin_client: Client, settings
) -> None:
    settings.ISBNDB_BATCH_PRICE = "measure"
    admin_client.get(reverse("admin:quota_switches_changelist"))
    assert "is not measured yet. Until then, it costs 1 call for each ISBN." in admin_client.get(PAGE).text
    settings.ISBNDB_BATCH_PRICE = "request"
    assert "A batch costs 1 call (set by ISBNDB_BATCH_PRICE)." in admin_client.get(PAGE).text
    admin_client.post(PAGE, NOTHING_SET | {"batch_price": "isbn", "reason": "the new contract"})
    assert price_of(RequestKind.BATCH, isbns=250) == 250
    page = admin_client.get(PAGE).text
    assert re.search(r"A batch costs 1 call for each ISBN \(set by the switches, since 20\d\d-.* UTC\)\.", page)
    history = admin_client.get("/admin/quota/switches/1/history/").text
    assert "isbn" in history
    assert "the new contract" in history


def test_limits_that_cannot_be_applied_at_once_are_saved_and_the_page_says_so(admin_client: Client) -> None:
    switch()
    reservations.open_ledger()
    with connection.cursor() as cursor:
        cursor.execute("ALTER FUNCTION quota_apply_limits RENAME TO quota_away")
        cursor.execute(
            "CREATE FUNCTION quota_apply_limits(p_daily_limit integer, p_safety_buffer integer, p_max_rps integer) "
            "RETURNS date LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE lock_not_available; END $$"
        )
    try:
        page = admin_client.post(PAGE, NOTHING_SET | {"max_rps": "7", "apply_to_today": "on"}, follow=True)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION quota_apply_limits")
            cursor.execute("ALTER FUNCTION quota_away RENAME TO quota_apply_limits")
    assert "today&#x27;s ledger keeps its old limits. The quota&#x27;s database did not answer" in page.content.decode()
    assert (Switches.objects.get().max_rps, DailyLedger.objects.get().max_rps) == (7, 3)
