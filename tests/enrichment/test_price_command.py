"""manage.py isbndb_price."""

import json

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition
from enrichment.services import prices
from enrichment.services.enrich import enrich_isbns
from quota.models import Call, PriceMeasurement
from quota.selectors.prices import get_prices
from tests.fixtures import balance, known_isbns

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("consumer", "sandbox")


@pytest.fixture(autouse=True)
def to_be_measured(settings, monkeypatch) -> None:
    settings.ISBNDB_BATCH_PRICE = "measure"
    monkeypatch.setattr(prices, "PAUSES", (0.05,) * 5)


def exit_code(*arguments: str) -> int:
    try:
        call_command("isbndb_price", *arguments)
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def test_an_unknown_price_is_shown_and_costs_nothing(capsys: Capture) -> None:
    assert exit_code() == 4
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("What ISBNdb charges for a batch is not measured yet.")
    assert said[1] == "What GET /key costs is not measured yet. Until then, it costs 1 call."
    assert not Call.objects.exists()


@pytest.mark.parametrize("price", ["request", "isbn"])
def test_it_measures_after_it_has_said_what_that_costs(sandbox: Sandbox, capsys: Capture, price: str) -> None:
    sandbox.set_plan(batch_price=price)
    assert exit_code("--measure") == 0
    said = capsys.readouterr()
    assert said.err.startswith("This sends a batch of 2 ISBNs and asks ISBNdb's counter 3 to 8 times. It costs 1 to 10")
    assert "Measured with a batch of two ISBNs at 2026-05-05 12:00 UTC; ISBNdb counted 1, " in said.out
    assert get_prices().batch_price == price
    assert exit_code("--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["batch_price"], figures["chosen_by"], figures["key_price"]) == (price, "measurement", 1)
    assert [each["how"] for each in figures["evidence"]] == ["probe"]
    assert figures["measured"] is None


def test_it_renews_the_editions_that_were_fetched_the_longest_ago(sandbox: Sandbox) -> None:
    isbns = known_isbns(4)
    enrich_isbns(isbns, consumer="reader")
    before = dict(Edition.objects.values_list("isbn13", "synced_at"))
    assert exit_code("--measure", "--json") == 0
    renewed = {isbn for isbn, at in Edition.objects.values_list("isbn13", "synced_at") if at != before[isbn]}
    assert len(renewed) == 2


def test_a_price_that_has_risen_is_measured_and_our_count_is_raised(sandbox: Sandbox) -> None:
    sandbox.set_plan(batch_price="request")
    assert exit_code("--measure") == 0
    sandbox.set_plan(batch_price="isbn")
    assert exit_code("--measure") == 0
    assert get_prices().batch_price == "isbn"
    counted, used = balance(sandbox)
    assert used >= counted


def test_figures_that_settle_nothing_are_another_exit_code(sandbox: Sandbox, capsys: Capture) -> None:
    sandbox.set_plan(counter_lag=3600)
    assert exit_code("--measure", "--json") == 4
    figures = json.loads(capsys.readouterr().out)
    assert (figures["measured"]["batch_price"], figures["batch_price"]) == (None, "unknown")
    assert figures["api_calls"] == 9
    assert PriceMeasurement.objects.count() == 1


def test_without_a_key_or_an_answer_nothing_is_measured(sandbox: Sandbox, settings) -> None:
    sandbox.add_fault("status", status=401)
    exit_code("--measure")
    assert get_prices().batch_price == "unknown"
    settings.ISBNDB_API_KEY = ""
    with pytest.raises(CommandError, match="nothing was sent"):
        exit_code("--measure")
