"""No request makes an error in the admin, however odd: ids that are none, NUL, wrong dates, long texts, wrong filters.

CASES is the number of requests to each address, by each kind of person, with each method: 1 unless told.
"""

import os
import re
from collections.abc import Iterator
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tests import rows
from tests.alexandria.admin.test_schedule import staff

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

CASES = int(os.environ.get("CASES") or 1)
ODD = [
    *("", "nonsense", "\x00", "a\x00b", "9" * 40, "-1", "0", "1e400", "NaN", "²", "９", "é", "%", "'", "[]", "null"),
    *("2026-13-45", "2026-02-30", "0000-00-00", "10000-01-01", "2026-11-27T25:61:61", "25:99", "x" * 3_000, "<b>"),
    *("00000000-0000-0000-0000-00000000000g", "9780735211292", "a,b,c", "1,2", "{", "\ud7ff", "\u202e", "\r\n"),
]
NAMES = ["q", "p", "o", "all", "e", "page", "_popup", "_to_field", "_changelist_filters", "next", "day", "state"]
GIVEN = ["action", "_selected_action", "select_across", "index", "_save", "_continue", "post", "_form_submitted"]
GIVEN += ["form-TOTAL_FORMS", "form-INITIAL_FORMS", "form-0-id", "isbns", "authors", "calls", "name", "slug", "reason"]
LOOKUPS = ["", "__exact", "__gte", "__lt", "__in", "__isnull", "__year", "__month", "__day", "_from", "_to", "_0", "_1"]
ENDS_THE_SESSION = "/admin/logout/"


def addresses(patterns: list[URLPattern | URLResolver], before: str = "/") -> Iterator[tuple[str, str | None]]:
    """Every route of the admin, and the module-free name of its table, if it has one."""
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, route)
        elif route.startswith("/admin/") and route != ENDS_THE_SESSION:
            yield re.sub(r"[\^$]|\\Z", "", route), ".".join(route.split("/")[2:4])


def names_of(page: Any | None) -> list[str]:
    """Parameters of the lists of a table: its filters, with every way to compare."""
    if page is None:
        return NAMES
    filters = [each[0] if isinstance(each, tuple) else each for each in page.list_filter]
    fields = [each for each in filters if isinstance(each, str)] + [field.name for field in page.model._meta.fields]
    return NAMES + [f"{field}{lookup}" for field in fields for lookup in LOOKUPS]


def filled(route: str, real: str, random: Random) -> str:
    """The route with a real id in three of four cases, and otherwise with an odd one."""

    def value(_: re.Match[str]) -> str:
        return quote(real if random.random() < 0.75 else random.choice(ODD)[:500] or "x", safe="")

    return re.sub(r"<[^>]+>|\(\?P<.*?\)", value, route)


def odd(names: list[str], random: Random) -> dict[str, str]:
    return {random.choice(names): random.choice(ODD) for _ in range(random.randint(1, 3))}


@pytest.mark.parametrize("who", ["superuser", "viewer"])
def test_no_odd_request_is_an_error(who: str, transactional_db: None, settings) -> None:
    rows.one_of_each()
    tables = {f"{model._meta.app_label}.{model._meta.model_name}": page for model, page in admin.site._registry.items()}
    keys = {name: str(first_of(page.model).pk) for name, page in tables.items()}
    superuser = User.objects.create_superuser("root")
    viewer = staff("viewers")
    random = Random(f"{who} {CASES}")
    routes = sorted(set(addresses(get_resolver().url_patterns)))
    assert len(routes) > 200
    failed, asked = [], 0
    for route, name in routes:
        page = tables.get(name or "")
        names = names_of(page)
        for _ in range(CASES):
            for method in ("get", "post"):
                client: Client = viewer
                if who == "superuser":
                    client = Client()
                    client.force_login(superuser)  # an earlier request can have changed the password
                client.raise_request_exception = False
                path = filled(route, keys.get(name or "", "1"), random)
                if parameters := odd(names, random):
                    path += "?" + "&".join(f"{quote(key)}={quote(value)}" for key, value in parameters.items())
                body = odd(names + GIVEN * 5, random) if method == "post" else None
                answer = getattr(client, method)(path, body)
                asked += 1
                if answer.status_code >= 500:
                    failed.append(f"{method} {path[:300]} {body!r:.300}: {answer.status_code} {answer.exc_info!r:.300}")
    assert not failed, "\n".join([f"{len(failed)} of {asked}:", *failed])


def first_of(model: type[Model]) -> Any:
    return model._default_manager.earliest("pk")
