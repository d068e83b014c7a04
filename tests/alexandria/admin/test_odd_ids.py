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
