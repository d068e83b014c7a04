"""The pages of reconciliations and of measured prices: a person takes ISBNdb's figure, with the evidence."""

from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from alexandria.alerts.snapshot import take_snapshot
from alexandria.development.sandbox.server import Sandbox
from enrichment.services.enrich import enrich_isbns
from enrichment.services.reconciliation import reconcile
from quota.models import Adjustment, Consumer, PriceMeasurement, Reconciliation
from quota.selectors.prices import get_prices
from quota.services import reservations
from quota.services.prices import record_measurement
from tests.fixtures import NOON, balance, known_isbns

WHY = {"_form_submitted": "True", "reason": "The plan has changed."}


@pytest.fixture
def cheaper(settings, sandbox: Sandbox, consumer: Consumer) -> Reconciliation:
    """A batch was charged by the ISBN, but costs one call."""
    settings.ISBNDB_BATCH_PRICE = "measure"
    reservations.open_ledger()
    record_measurement(
        day=NOON.date(),
        how=PriceMeasurement.How.PROBE,
        figures=[{"at": NOON.isoformat(), "spent": spent, "call": None} for spent in (10, 13, 14)],
        batch_price="isbn",
        key_price=1,
    )
    enrich_isbns(known_isbns(9), consumer="reader")
    return reconcile(consumer="reader").counters


def page_of(found: Reconciliation) -> str:
    return reverse("admin:quota_reconciliation_change", args=[found.pk])


def take_figure(found: Reconciliation) -> str:
    return reverse("admin:quota_reconciliation_take_figure", args=[found.pk])


def test_a_person_takes_isbndbs_figure_with_a_reason_and_the_lower_price(
    admin_client: Client, sandbox: Sandbox, cheaper: Reconciliation
) -> None:
    page = admin_client.get(page_of(cheaper)).text
    assert "take-figure" in page
    assert "1 call for the request" in page
    address = take_figure(cheaper)
    admin_client.post(address, {"_form_submitted": "True"})
    assert balance(sandbox) == (2, 10), "a reason is required"
    admin_client.post(address, WHY)
    assert balance(sandbox) == (2, 2)
    assert get_prices().batch_price == "request"
    assert LogEntry.objects.get().change_message == "Took back 8 calls. Reason: The plan has changed."
    assert Adjustment.objects.get().made_by is not None
    again = admin_client.post(address, WHY, follow=True)
    assert "was not lowered" in again.text
    assert take_snapshot(expected_queues=()).price_change is None, "a person knows it already"


def test_there_is_no_button_where_ours_is_not_higher(
    admin_client: Client, sandbox: Sandbox, consumer: Consumer
) -> None:
    found = reconcile(consumer="reader").counters
    page = admin_client.get(page_of(found)).text
    assert "take-figure" not in page


@pytest.mark.parametrize(("group", "may"), [("operators", False), ("managers", True)])
def test_managers_may_take_isbndbs_figure_and_operators_may_not(
    sandbox: Sandbox, cheaper: Reconciliation, *, group: str, may: bool
) -> None:
    import_module("alexandria.migrations.0001_groups").make_groups(apps, None)
    user = User.objects.create_user(group, is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    client.post(take_figure(cheaper), WHY)
    assert (balance(sandbox) == (2, 2)) is may


def test_the_list_of_measured_prices_shows_the_evidence(admin_client: Client, cheaper: Reconciliation) -> None:
    page = admin_client.get(reverse("admin:quota_pricemeasurement_changelist")).text
    assert "10, 13, 14" in page


def test_a_changed_price_is_a_critical_alert_for_a_day(sandbox: Sandbox, cheaper: Reconciliation) -> None:
    assert take_snapshot(expected_queues=()).price_change is None, "the first measurement is no change"
    PriceMeasurement.objects.update(batch_price="request")
    sandbox.set_plan(batch_price="isbn")
    enrich_isbns(known_isbns(30)[9:], consumer="reader")
    sandbox.set_limits(spent=sandbox.spent + 8)  # our count was higher by that
    assert reconcile(consumer="reader").counters.price_seen == "isbn"
    change = take_snapshot(expected_queues=()).price_change
    assert change is not None
    assert (change.price, change.chosen_instead) == ("1 call for each ISBN", "")


def test_a_smaller_plan_is_an_alert(sandbox: Sandbox, consumer: Consumer) -> None:
    sandbox.set_limits(daily_limit=500)
    reconcile(consumer="reader")
    snapshot = take_snapshot(expected_queues=())
    assert (snapshot.sold, snapshot.configured_limit, snapshot.status.daily_limit) == (500, 15_000, 500)
