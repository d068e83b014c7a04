"""The quota in the admin: history to look at, consumers to change."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from quota.models import Call, Consumer, DailyLedger, Reservation
from quota.services import reservations

HISTORY = [DailyLedger, Reservation, Call]


def changelist(model: Any) -> str:
    return reverse(f"admin:quota_{model.__name__.lower()}_changelist")


@pytest.mark.parametrize("model", [*HISTORY, Consumer])
def test_every_page_shows_its_rows(model: Any, pages: Client) -> None:
    page = pages.get(changelist(model))
    assert page.status_code == 200
    assert len(page.context["cl"].result_list) == model.objects.count() > 0
    row = model.objects.first()
    detail = pages.get(reverse(f"admin:quota_{model.__name__.lower()}_change", args=[row.pk]))
    assert detail.status_code == 200


def test_times_are_shown_in_iso_8601(pages: Client) -> None:
    assert f"{Call.objects.earliest('pk').dispatched_at:%Y-%m-%d %H:%M:%S}" in pages.get(changelist(Call)).text


@pytest.mark.slow
@pytest.mark.parametrize("model", [Reservation, Call])
def test_a_search_for_an_invalid_id_finds_nothing(model: Any, pages: Client) -> None:
    page = pages.get(changelist(model), {"q": "abc"})
    assert (page.status_code, list(page.context["cl"].result_list)) == (200, [])


@pytest.mark.parametrize("model", HISTORY)
def test_history_cannot_be_added_changed_or_deleted(model: Any, pages: Client) -> None:
    name, row = model.__name__.lower(), model.objects.first()
    assert pages.get(reverse(f"admin:quota_{name}_add")).status_code == 403
    assert pages.post(reverse(f"admin:quota_{name}_change", args=[row.pk]), {}).status_code == 403
    assert pages.post(reverse(f"admin:quota_{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


@pytest.mark.slow
def test_the_number_of_queries_does_not_grow_with_the_journal(pages: Client, django_assert_max_num_queries) -> None:
    for number in range(20):
        Consumer.objects.create(slug=f"consumer-{number}")
        reservations.increment(1, consumer=f"consumer-{number}")
    with django_assert_max_num_queries(12):
        pages.get(changelist(Call))


@pytest.mark.parametrize("model", [Reservation, Call])
def test_a_long_history_is_not_counted(model: Any, pages: Client, consumer: Consumer) -> None:
    with CaptureQueriesContext(connection) as queries:
        page = pages.get(changelist(model), {"consumer__id__exact": consumer.pk})
    assert len(page.context["cl"].result_list) == 1
    assert not [query for query in queries if "COUNT(" in query["sql"] and model._meta.db_table in query["sql"]]
