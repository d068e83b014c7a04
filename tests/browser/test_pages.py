"""Every page of the admin in a browser: accessible and without errors, in light and dark, wide and on a phone."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.urls import reverse
from playwright.sync_api import Page

from quota.models import Consumer
from tests import rows
from tests.browser.steps import flaws

pytestmark = pytest.mark.slow

MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)


def pages_of(model: type[Model], tab: Page) -> list[str]:
    """The pages of a model that an administrator can open. Its table has a row."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    row = model._default_manager.earliest("pk")
    pages = [reverse(f"{name}_changelist"), reverse(f"{name}_change", args=[row.pk])]
    form = reverse(f"{name}_add")
    return [*pages, form] if tab.request.get(form).status == 200 else pages


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label_lower)
def test_the_pages_of_a_table(model: type[Model], admin_tab: Page) -> None:
    rows.one_of_each()
    if model not in rows.ONLY_ONE:
        rows.fill(model, 3)
    found = []
    for page in pages_of(model, admin_tab):
        admin_tab.goto(page)
        found += flaws(admin_tab)
    assert not found, "\n".join(found)


def test_the_pages_of_the_site(admin_tab: Page) -> None:
    user = User.objects.get()
    rows.one_of_each()
    found = []
    for page in (
        reverse("admin:index"),
        reverse("admin:app_list", args=["quota"]),
        reverse("admin:quota_consumer_history", args=[Consumer.objects.get().pk]),  # is the same for every table
        reverse("admin:auth_group_delete", args=[Group.objects.get().pk]),  # likewise
        reverse("admin:password_change"),
        reverse("admin:auth_user_password_change", args=[user.pk]),
    ):
        admin_tab.goto(page)
        found += flaws(admin_tab)
    assert not found, "\n".join(found)


def test_the_page_before_log_in(tab: Page) -> None:
    tab.goto(reverse("admin:index"))
    found = flaws(tab)
    assert not found, "\n".join(found)


def test_the_page_of_the_api_shows_every_request_and_keeps_no_key(tab: Page) -> None:
    tab.goto(reverse("docs"))
    tab.locator(".opblock").first.wait_for()
    tab.get_by_role("button", name="Authorize").first.click()
    tab.get_by_label("auth-api-key-value").or_(tab.locator(".auth-container input")).first.fill("Api-Key a-key")
    tab.locator(".auth-container").get_by_role("button", name="Apply").or_(
        tab.locator(".auth-container button.authorize")
    ).first.click()
    assert "a-key" not in tab.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
