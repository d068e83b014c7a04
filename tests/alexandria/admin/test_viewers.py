"""A viewer can change nothing, on any page of the admin, including the pages of libraries."""

import re
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.db import connection
from django.urls import reverse

from tests import rows
from tests.alexandria.admin.test_schedule import staff

pytestmark = pytest.mark.slow

CHANGED_BY_VIEWING = {"django_session", "enrichment_isbnlist"}
"""Viewers can check ISBNs: the list is stored for the page that shows its cost."""

GIVEN = {
    "slug": "mine",
    "kind": "api",
    "active": "on",
    "floor": "9",
    "harvest_enabled": "on",
    "daily_limit": "14000",
    "name": "mine",
    "post": "yes",
    "_form_submitted": "True",
    "reason": "a test",
}
"""Valid values for all forms."""


def contents() -> dict[str, str]:
    """A checksum of all rows of each table."""
    sums = {}
    with connection.cursor() as cursor:
        for table in set(connection.introspection.table_names()) - CHANGED_BY_VIEWING:
            name = connection.ops.quote_name(table)
            cursor.execute(f"SELECT md5(string_agg(line::text, '|' ORDER BY line::text)) FROM {name} AS line")  # noqa: S608
            [sums[table]] = cursor.fetchone()
    return sums


def addresses() -> Iterator[str]:
    """All pages of all models, each for the first row, including old versions of it."""
    for model, pages in admin.site._registry.items():
        row = model._default_manager.earliest("pk")
        for url in pages.get_urls():
            if url.name and url.name.endswith("_simple_history"):
                yield reverse(f"admin:{url.name}", args=[row.pk, row.history.earliest().pk])  # type: ignore[attr-defined]
            elif url.name:
                names = re.findall(r"<(?:\w+:)?(\w+)>", str(url.pattern))
                yield reverse(f"admin:{url.name}", kwargs=dict.fromkeys(names, row.pk))


def test_no_post_of_a_viewer_changes_anything(transactional_db: None) -> None:
    rows.one_of_each()
    viewer = staff("viewers")
    viewer.get(reverse("admin:index"))
    before = contents()
    for address in addresses():
        assert viewer.post(address, GIVEN).status_code in (200, 302, 403, 404, 405), address
    for model, pages in admin.site._registry.items():
        page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for action in [*(pages.actions or ()), "delete_selected"]:
            chosen = {"action": str(action), "_selected_action": [model._default_manager.earliest("pk").pk]}
            viewer.post(page, GIVEN | chosen)
    assert contents() == before
