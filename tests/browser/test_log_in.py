"""Staff can log in and out; other users cannot log in."""

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow


def log_in(tab: Page, name: str) -> None:
    tab.get_by_label("Username").fill(name)
    tab.get_by_label("Password").fill("correct horse")
    tab.get_by_role("button", name="Log in").click()


def test_staff_log_in_reach_the_page_they_opened_and_log_out(tab: Page) -> None:
    User.objects.create_superuser("admin", password="correct horse")
    wanted = reverse("admin:quota_consumer_changelist")
    tab.goto(wanted)
    log_in(tab, "nobody")
    expect(tab.get_by_text("Please enter the correct username and password")).to_be_visible()
    log_in(tab, "admin")
    expect(tab).to_have_url(wanted)
    tab.get_by_text("admin", exact=True).first.click()
    tab.get_by_role("button", name="Log out").click()
    tab.goto(wanted)
    expect(tab.get_by_role("button", name="Log in")).to_be_visible()
    tab.goto(reverse("admin:login"))
    log_in(tab, "admin")
    expect(tab).to_have_url(reverse("admin:index"))


def test_a_user_who_is_not_staff_cannot_log_in(tab: Page) -> None:
    User.objects.create_user("reader", password="correct horse")
    tab.goto(reverse("admin:index"))
    log_in(tab, "reader")
    expect(tab.get_by_text("staff account")).to_be_visible()
    assert tab.request.get(reverse("admin:quota_call_changelist"), max_redirects=0).status == 302
