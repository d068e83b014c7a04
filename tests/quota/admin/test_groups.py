"""Permissions: what each of the three groups of staff can do on every page of the quota, and what it cannot."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.test import Client

from quota.exceptions import QuotaRefused
from quota.models import Call, Consumer, ConsumerKey, Refusal, Reservation, Switches
from quota.prices import RequestKind
from quota.services import reservations
from quota.services.corrections import adjust

GROUPS = ("viewers", "operators", "managers")
HISTORY = ("dailyledger", "call", "reservation", "refusal", "adjustment", "reconciliation")
WHY = {"reason": "a test", "_form_submitted": "True"}


@pytest.fixture
def rows(consumer: Consumer) -> dict[str, Any]:
    """One row of each kind, and the groups that the migration creates."""
    import_module("alexandria.migrations.0001_groups").make_groups(apps, None)
    poor = Consumer.objects.create(slug="poor", daily_budget=0)
    reservation = reservations.reserve(consumer="reader", operation="shelf", calls=2)
    reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    adjust(calls=1, reason="a test", made_with="a test")
    with pytest.raises(QuotaRefused):
        reservations.reserve(consumer="poor", operation="shelf", calls=1)
    ConsumerKey.objects.create_key(name="one", consumer=consumer)
    return {"poor": poor, "reader": consumer, "reservation": reservation, "key": ConsumerKey.objects.get().prefix}


def staff(group: str) -> Client:
    user = User.objects.create_user(group, is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


def pages_to_view(rows: dict[str, Any]) -> Iterator[str]:
    for name in (*HISTORY, "consumer"):
        yield f"/admin/quota/{name}/"
    yield "/admin/quota/dailyledger/2026-05-05/change/"
    yield f"/admin/quota/reservation/{rows['reservation']}/change/"
    yield f"/admin/quota/refusal/{Refusal.objects.get().pk}/change/"
    yield f"/admin/quota/consumer/{rows['reader'].pk}/change/"
    yield f"/admin/quota/consumer/{rows['reader'].pk}/history/"
    yield "/admin/quota/switches/1/change/"
    for name in ("dailyledger", "call"):
        yield from (f"/admin/quota/{name}/export-csv/", f"/admin/quota/{name}/export-json/")


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.slow
def test_each_group_can_view_and_export_but_change_only_what_it_is_permitted_to(
    group: str, rows: dict[str, Any]
) -> None:
    client = staff(group)
    manager = group == "managers"
    may = {
        "release": group != "viewers",
        **dict.fromkeys(("switch", "limits", "add", "key", "switches", "adjust"), manager),
    }
    client.get("/admin/quota/switches/")  # this creates the row
    for page in pages_to_view(rows):
        answer = client.get(page)
        assert answer.status_code == 200, page
        if answer.streaming:
            assert b"".join(answer.streaming_content)  # type: ignore[attr-defined]

    reader, poor, key = rows["reader"], rows["poor"], rows["key"]
    its_page = f"/admin/quota/consumer/{reader.pk}/change/"
    offered = client.get(its_page).text
    assert ("Rotate" in offered, "New key" in offered, 'name="_save"' in offered) == (manager,) * 3
    assert ('name="reason"' in offered) is manager
    assert ("Release calls that were not" in client.get("/admin/quota/reservation/").text) is may["release"]
    assert ("Switch off" in client.get("/admin/quota/consumer/").text) is may["switch"]

    release = {"action": "release", "_selected_action": [rows["reservation"]], **WHY}
    client.post("/admin/quota/reservation/", release)
    assert (Reservation.objects.get().state == "settled") is may["release"]
    client.post("/admin/quota/consumer/", {"action": "switch_off", "_selected_action": [poor.pk], **WHY})
    poor.refresh_from_db()
    assert poor.active is not may["switch"]

    limits = {"slug": "reader", "kind": "api", "active": "on", "floor": "7", **WHY}
    switches = {"harvest_enabled": "on", "daily_limit": "14000", **WHY}
    keys = f"/admin/quota/consumer/{reader.pk}/keys"
    posts = {
        its_page: ("limits", limits, 302),
        "/admin/quota/consumer/add/": ("add", limits | {"slug": "new"}, 302),
        f"{keys}/add/": ("key", {"name": "two", **WHY}, 200),
        f"{keys}/{key}/rotate/": ("key", WHY, 200),
        f"{keys}/{key}/revoke/": ("key", WHY, 302),
        "/admin/quota/switches/1/change/": ("switches", switches, 302),
        f"/admin/quota/switches/1/history/{Switches.history.latest().pk}/": ("switches", switches, 302),
        f"/admin/quota/consumer/{reader.pk}/history/{reader.history.latest().pk}/": ("limits", limits, 302),
        "/admin/quota/adjustment/add/": (
            "adjust",
            {"ledger": "2026-05-05", "consumer": str(reader.pk), "calls": "1", **WHY},
            302,
        ),
    }
    for page, (what, fields, done) in posts.items():
        assert client.post(page, fields).status_code == (done if may[what] else 403), page
        if not any(part in page for part in ("/revoke/", "/change/", "/history/")):
            assert client.get(page).status_code == (200 if may[what] else 403), page
    reader.refresh_from_db()
    assert (reader.floor == 7) is manager
    assert (Switches.objects.get().daily_limit == 14_000) is manager
    assert (ConsumerKey.objects.count() == 3) is manager

    for name in HISTORY:
        assert client.get(f"/admin/quota/{name}/add/").status_code == (200 if manager and name == "adjustment" else 403)
    for page in (f"consumer/{poor.pk}", f"call/{Call.objects.earliest('pk').pk}", "dailyledger/2026-05-05"):
        assert client.post(f"/admin/quota/{page}/delete/", {"post": "yes"}).status_code == 403
