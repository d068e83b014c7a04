"""The admin pages of bulk harvests."""

import uuid
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from harvest.models import BulkAuthor, BulkHarvest

pytestmark = pytest.mark.django_db
ENDED = {"state": "stopped", "ended_at": datetime(2026, 5, 5, tzinfo=UTC)}


def made(key: str, authors: int = 3) -> BulkHarvest:
    harvest = BulkHarvest.objects.create(key=key, label=f"{key}.csv", max_pages=10, reason="quota", **ENDED)
    states = ["done", "failed", "pending"]
    BulkAuthor.objects.bulk_create(
        BulkAuthor(harvest=harvest, position=place, name=f"{key} {place}", state=states[place % 3], books=5, calls=2)
        for place in range(authors)
    )
    return harvest


def page(client: Client, view: str, *args: object, **query: str | int) -> str:
    response = client.get(reverse(f"admin:harvest_{view}", args=args), query)
    assert response.status_code == 200
    return response.content.decode()


def test_harvests_are_listed_with_their_figures_in_a_fixed_number_of_queries(admin_client: Client) -> None:
    made("one")
    page(admin_client, "bulkharvest_changelist")
    with CaptureQueriesContext(
        connection,
    ) as few:
        text = page(admin_client, "bulkharvest_changelist")
    assert "2 of 3" in text
    for key in ("two", "three"):
        made(key, authors=30)
    with CaptureQueriesContext(connection) as many:
        page(admin_client, "bulkharvest_changelist")
    assert len(many) == len(few)


def test_a_running_harvest_with_an_expired_lease_is_shown_as_silent(admin_client: Client) -> None:
    held = {"state": "running", "ended_at": None, "holder": uuid.uuid4()}
    BulkHarvest.objects.filter(pk=made("one").pk).update(**held, lease_until=datetime(2026, 5, 5, 12, 15, tzinfo=UTC))
    assert "no update since 2026-05-05 12:00 UTC" in page(admin_client, "bulkharvest_changelist")
    BulkHarvest.objects.update(lease_until=datetime.now(UTC) + BulkHarvest.LEASE)
    assert "no update since" not in page(admin_client, "bulkharvest_changelist")


def test_a_harvest_links_to_its_authors_and_cannot_be_changed(admin_client: Client) -> None:
    one = made("one")
    made("two")
    text = page(admin_client, "bulkharvest_change", one.pk)
    assert f"harvest__id__exact={one.pk}" in text
    assert 'name="_save"' not in text
    authors = page(admin_client, "bulkauthor_changelist", harvest__id__exact=one.pk, state__exact="failed")
    assert "one 1" in authors
    assert "one 0" not in authors
    assert "two 1" not in authors
    assert "two 2" in page(admin_client, "bulkauthor_changelist", q="two")


def test_the_database_allows_one_open_harvest_per_list_and_none_running_without_a_holder() -> None:
    one = made("one")
    held = {"state": "running", "ended_at": None, "holder": uuid.uuid4(), "lease_until": datetime.now(UTC)}
    for wrong in (
        lambda: made("one"),
        lambda: BulkHarvest.objects.update(state="running"),
        lambda: BulkHarvest.objects.update(**held | {"state": "stopped"}),
        lambda: BulkHarvest.objects.update(max_pages=11),
        lambda: BulkAuthor.objects.update(state="lost"),
        lambda: BulkAuthor.objects.update(position=1),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            wrong()
    BulkHarvest.objects.update(**held)
    one.refresh_from_db()
    assert one.state == "running"
