"""Every list of the admin with 1,000 rows: no more queries than with five, and no count of a long table."""

import re

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from enrichment.models import Author, AuthorMiss, Edition, Miss, Work
from harvest.models import HarvestRun
from quota.models import Call, Consumer, ConsumerKey, ConsumerUsage, DailyLedger, Refusal, Reservation
from tests import rows

pytestmark = pytest.mark.slow

FEW, MANY = 5, 1_000
MAX_QUERIES = 15
NOT_COUNTED = {
    Call,
    Reservation,
    Refusal,
    Edition,
    Work,
    Author,
    Miss,
    AuthorMiss,
    HarvestRun,
    LogEntry,
}
"""Tables that can have millions of rows."""

# Consumers come last, because other lists have a filter with all of them.
LISTED = sorted(admin.site._registry.keys() - rows.ONLY_ONE, key=lambda model: (model is Consumer, model._meta.label))


@pytest.fixture
def staff(transactional_db: None) -> Client:
    """An administrator, with a row in every table."""
    rows.one_of_each()
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    client.get(reverse("admin:index"))  # the first page fills Django's caches
    return client


def queries_of(client: Client, path: str) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(path).status_code == 200
    return [query["sql"] for query in queries]


def queries_of_list(client: Client, model: type[Model], *, added: int) -> list[str]:
    """The queries of a model's list after that many rows were added."""
    rows.fill(model, added)
    return queries_of(client, reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))


@pytest.mark.no_cover
def test_a_list_of_1000_rows_needs_no_more_queries_than_a_short_one(staff: Client) -> None:
    few = {model: queries_of_list(staff, model, added=FEW) for model in LISTED}
    many = {model: queries_of_list(staff, model, added=MANY) for model in LISTED}
    assert {model: sql for model, sql in many.items() if len(sql) > len(few[model])} == {}
    assert {model: len(sql) for model, sql in many.items() if len(sql) > MAX_QUERIES} == {}
    assert {model: sql for model in NOT_COUNTED for sql in many[model] if counts(model, sql)} == {}


def counts(model: type[Model], sql: str) -> bool:
    """Whether a query counts the rows of the whole table, not only what belongs to the rows shown."""
    return re.match(rf'SELECT COUNT\(.*\bFROM "{model._meta.db_table}"', sql) is not None


def page_of(row: Model) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def test_a_day_with_50_consumers_needs_no_more_queries(staff: Client) -> None:
    ledger = DailyLedger.objects.get()
    before = queries_of(staff, page_of(ledger))
    rows.fill(Consumer, 50)
    for consumer in Consumer.objects.filter(usages=None):
        ConsumerUsage.objects.create(ledger=ledger, consumer=consumer, used=1)
    after = queries_of(staff, page_of(ledger))
    assert ledger.usages.count() == 51
    assert len(after) <= min(len(before), MAX_QUERIES), after


def test_a_consumer_with_100_keys_needs_no_more_queries(staff: Client) -> None:
    consumer = Consumer.objects.get()
    before = queries_of(staff, page_of(consumer))
    rows.fill(ConsumerKey, 100)
    after = queries_of(staff, page_of(consumer))
    assert consumer.keys.count() == 101
    assert len(after) <= min(len(before), MAX_QUERIES), after
