"""An id that is no id is not found. It is never an error of ours."""

from typing import Any
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.test import Client
from django_celery_beat.models import PeriodicTask

from enrichment.models import Job
from quota.models import Consumer, Reservation

ODD = ["nonsense", "9" * 40, "\x01", "00000000-0000-0000-0000-00000000000g"]
MODELS = [Consumer, Reservation, Job, PeriodicTask]
"""With a number and with a UUID as their ids, on our own pages and on those of a library; all pages have one base."""


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label_lower)
def test_a_page_or_action_of_an_id_that_is_none_is_not_found(
    transactional_db: None, admin_client: Client, model: Any
) -> None:
    admin_client.raise_request_exception = False
    base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    for odd in ODD:
        path = quote(odd, safe="")
        assert admin_client.get(f"{base}{path}/change/").status_code in {302, 404}
        assert admin_client.get(f"{base}?id__exact={path}").status_code in {200, 302}
    [*actions] = admin.site._registry[model].actions or ()
    action = actions[0] if isinstance(actions[0], str) else actions[0].__name__
    assert admin_client.post(base, {"action": action, "_selected_action": "nonsense"}).status_code == 404
    assert admin_client.post(base, {"action": action, "_selected_action": "9" * 40}).status_code in {200, 302, 404}


def test_every_page_of_a_table_has_the_base_that_checks_ids() -> None:
    assert {type(page).response_action.__module__ for page in admin.site._registry.values()} == {
        "alexandria.common.admin"
    }


@pytest.mark.parametrize("page", ["change", "delete", "history"])
@pytest.mark.parametrize(
    ("table", "odd"),
    [("alerts/delivery", "25:99"), ("quota/consumer", "10000-01-01"), ("enrichment/queuedisbn", "\x00")],
)
def test_every_page_of_an_id_that_is_none_is_not_found(
    transactional_db: None, admin_client: Client, table: str, odd: str, page: str
) -> None:
    admin_client.raise_request_exception = False
    address = f"/admin/{table}/{quote(odd, safe='')}/{page}/"
    assert [admin_client.get(address).status_code, admin_client.post(address).status_code] == [404, 404]


def test_a_nul_character_is_refused_in_an_address_and_in_a_form(transactional_db: None, admin_client: Client) -> None:
    admin_client.raise_request_exception = False
    assert admin_client.get("/admin/enrichment/queuedisbn/?isbn13__in=a%00b").status_code == 400
    given = {"action": "drop", "_selected_action": "a\x00b"}
    assert admin_client.post("/admin/enrichment/queuedisbn/", given).status_code == 400


def test_an_empty_name_of_a_field_is_none(transactional_db: None, admin_client: Client) -> None:
    consumer = Consumer.objects.create(slug="reader")
    assert admin_client.get(f"/admin/quota/consumer/{consumer.pk}/delete/?_to_field=").status_code == 200
