"""manage.py bulk_author_harvest --server against our own API, over real HTTP."""

from pathlib import Path

import pytest
from pytest_django.live_server_helper import LiveServer

from alexandria.development.sandbox.server import Sandbox
from quota.models import Call, Consumer, Switches
from tests.fixtures import balance
from tests.harvest.bulk import a_list, harvest, pages_asked


@pytest.mark.slow
@pytest.mark.usefixtures("plenty_left")
def test_a_list_is_harvested_through_our_api_to_the_end_of_the_quota_and_beyond(
    live_server: LiveServer, sandbox: Sandbox, consumer: Consumer, key: str, tmp_path: Path, settings
) -> None:
    sandbox.add_fault("status", status=404, path="/author/Nobody", body={"message": "Not found"})
    Consumer.objects.update(daily_budget=3)
    listed = a_list(tmp_path, "Agatha Christie", "Nobody", "Adam Silvera", "Nora Roberts")
    through = ("--server", live_server.url, "--api-key", key, "--checkpoint", tmp_path / "checkpoint")

    first = harvest(listed, *through)
    assert first.code == 2, first.message
    assert [(each["name"], each["state"], each["books"], each["calls"]) for each in first.named("author")] == [
        ("Agatha Christie", "done", 1432, 2),
        ("Nobody", "unknown", 0, 1),
    ]
    assert "daily budget" in first.message
    assert balance(sandbox) == (3, 3)

    Consumer.objects.update(daily_budget=None)
    Switches.objects.update_or_create(pk=1, defaults={"harvest_enabled": False})  # API clients are not affected
    second = harvest("--resume", *through)
    assert (second.code, second.summary["done"], second.summary["calls"]) == (0, 3, 5)
    asked = pages_asked(sandbox)
    assert len(asked) == len(set(asked)) == 5
    assert balance(sandbox) == (5, 5)
    [source] = set(Call.objects.values_list("reservation__source", flat=True))
    assert source.startswith("bulk-")

    ranked = harvest("--server", live_server.url, "--api-key", key, "--tier", "top-100", "--dry-run")
    assert ranked.code == 0, ranked.message
    assert ranked.events[0]["authors"] == 100
    last = harvest("--server", live_server.url, "--api-key", key, "--tier", "5000-20000", "--dry-run")
    assert last.message == "The list has no author name in it."

    Consumer.objects.update(active=False)
    off = harvest("--author", "Stephen King", *through[:4], "--checkpoint", tmp_path / "other")
    assert off.code == 1
    assert "switched off" in off.message
