"""The usage history: a row for each day, and a page with its consumers, hours and outcomes."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from quota.exceptions import QuotaRefused
from quota.models import Call, Consumer, ConsumerUsage, DailyLedger
from quota.services import reservations
from quota.services.corrections import adjust
from tests.fixtures import NOON

TODAY = "2026-05-05"
DAY_PAGE = f"/admin/quota/dailyledger/{TODAY}/change/"


@pytest.mark.slow
def test_a_day_is_shown_by_consumer_hour_and_outcome_with_links_to_its_calls(pages: Client, consumer: Consumer) -> None:
    Call.objects.filter(consumer=consumer).update(outcome=Call.Outcome.TIMEOUT)
    adjust(calls=5, reason="a test", made_with="a test")
    Consumer.objects.create(slug="poor", daily_budget=0)
    with pytest.raises(QuotaRefused):
        reservations.reserve(consumer="poor", operation="test", calls=1)
    page = pages.get(DAY_PAGE)
    day = page.context["day"]
    assert (day.ledger.used, day.hours[12], sum(day.hours)) == (8, 8, 8)
    assert [(outcome.value, requests, calls) for outcome, requests, calls in day.outcomes] == [
        ("timeout", 1, 1),
        ("adjusted", 0, 5),
        ("external", 0, 2),
    ]
    assert [(str(usage.consumer), usage.used, usage.reserved) for usage in day.usages] == [
        ("external", 7, 0),
        ("reader", 1, 2),
    ]
    assert (day.refusals, day.adjusted, day.drift) == (1, 5, 0)
    assert "8 of 13,000 calls used (less than 1 %), 12,990 free. 1 request sent." in page.text
    drill_down = f"/admin/quota/call/?day={TODAY}&amp;consumer__id__exact={consumer.pk}"
    assert drill_down in page.text
    calls = pages.get(drill_down.replace("&amp;", "&"))
    assert [call.consumer.slug for call in calls.context["cl"].result_list] == ["reader"]
    for name in ("refusal", "adjustment", "reconciliation"):
        assert (
            pages.get(
                reverse(f"admin:quota_{name}_changelist"),
                {"day": TODAY} if name == "refusal" else {"ledger__day__exact": TODAY},
            ).status_code
            == 200
        )


def test_the_list_shows_used_reserved_and_free_calls(pages: Client) -> None:
    page = pages.get(reverse("admin:quota_dailyledger_changelist")).text
    assert "3 of 13,000" in page
    assert "12,995" in page


@pytest.mark.slow
def test_more_consumers_and_days_need_no_more_queries(pages: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            pages.get(reverse("admin:quota_dailyledger_changelist"))
            pages.get(DAY_PAGE)
        return len(asked)

    queries()  # the first request fills caches
    few = queries()
    consumers = Consumer.objects.bulk_create(Consumer(slug=f"consumer-{number}") for number in range(50))
    ConsumerUsage.objects.bulk_create(ConsumerUsage(ledger_id=TODAY, consumer=one, used=1) for one in consumers)
    limits = {"daily_limit": 15_000, "safety_buffer": 2_000, "max_rps": 3}
    for day in range(1, 5):
        DailyLedger.objects.create(day=f"2026-05-0{day}", **limits, next_dispatch_at=NOON, opened_at=NOON)
    assert queries() == few <= 20


def test_a_day_without_journal_still_has_its_totals(pages: Client) -> None:
    Call.objects.all().delete()
    page = pages.get(DAY_PAGE).text
    assert "it keeps them for 400 days" in page
    assert "3 of 13,000 calls used" in page
