import json as json_module
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.utils.text import capfirst

from alexandria.common.commands import ToolCommand
from alexandria.common.text import as_people_read, as_programs_read, counted
from enrichment.exceptions import EnrichmentStopped
from enrichment.models.jobs import OPERATOR
from enrichment.services.enrich import measure_price
from enrichment.services.prices import MAX_QUESTIONS, PROBE_ISBNS
from quota.exceptions import QuotaUnavailable
from quota.models import Consumer, PriceMeasurement
from quota.prices import BatchPrice
from quota.selectors.prices import get_prices, measured_prices


class Command(ToolCommand):
    help = """\
Shows what ISBNdb charges for a batch of ISBNs and for GET /key, since when, and how we know it. With --measure, it asks
ISBNdb's own counter: before and after a batch of two ISBNs.

exit codes:
  0  the price of a batch is known; with --measure: it was measured
  1  ISBNdb or the database did not answer, the quota refused the calls, or wrong usage
  4  the price of a batch is not known; with --measure: the figures settled nothing"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--measure",
            action="store_true",
            help="measure now. It first says what that costs. Everybody else waits for 6 seconds; if ISBNdb's counter "
            "lags, for a minute",
        )
        figures = '{"batch_price", "batch_price_since", "chosen_by", "key_price", "evidence", "measured", "api_calls"}'
        parser.add_argument("--json", action="store_true", help=figures)

    def handle(self, *args: Any, measure: bool, json: bool, **options: Any) -> None:
        try:
            measured, api_calls = self._measure() if measure else (None, 0)
            prices, evidence = get_prices(), measured_prices()
        except EnrichmentStopped as stopped:
            raise CommandError(str(stopped.reason)) from stopped
        except QuotaUnavailable as error:
            raise CommandError(str(error)) from error
        if json:
            figures = {
                "batch_price": prices.batch_price,
                "batch_price_since": prices.since and as_programs_read(prices.since),
                "chosen_by": prices.chosen_by,
                "key_price": prices.key_price,
                "evidence": [as_dict(each) for each in evidence],
                "measured": as_dict(measured) if measured else None,
                "api_calls": api_calls,
            }
            self.stdout.write(json_module.dumps(figures, indent=2))
        else:
            if measured:
                self.stdout.write(f"{counted(api_calls, 'call')} spent. {as_text(measured)}")
            self.stdout.write(prices.in_words)
            if prices.key_price is None:
                self.stdout.write("What GET /key costs is not measured yet. Until then, it costs 1 call.")
            else:
                self.stdout.write(f"GET /key costs {counted(prices.key_price, 'call')} (measured).")
            for each in evidence:
                if measured and each.pk == measured.pk:
                    continue  # it is shown already
                self.stdout.write(f"Evidence: {as_text(each)}")
        settled = measured.batch_price != "" if measured else prices.batch_price != BatchPrice.UNKNOWN
        if not settled:
            raise SystemExit(4)

    def _measure(self) -> tuple[PriceMeasurement, int]:
        if not settings.ISBNDB_API_KEY:
            raise CommandError("ISBNDB_API_KEY is not set, so nothing was sent.")
        questions = MAX_QUESTIONS + 1  # and a last one, which corrects our count if the price has risen
        self.stderr.write(
            f"This sends a batch of {PROBE_ISBNS} ISBNs and asks ISBNdb's counter 3 to {questions} times. It costs 1 "
            f"to {PROBE_ISBNS + questions} calls."
        )
        Consumer.objects.get_or_create(slug=OPERATOR)
        measured, api_calls = measure_price(consumer=OPERATOR)
        if measured is None:
            raise CommandError("Other requests were under way all the time, so nothing was measured. Try again.")
        return measured, api_calls


def as_dict(measurement: PriceMeasurement) -> dict[str, Any]:
    return {
        "measured_at": as_programs_read(measurement.measured_at),
        "how": measurement.how,
        "batch_price": measurement.batch_price or None,
        "key_price": measurement.key_price,
        "figures": measurement.figures,
        "note": measurement.note,
    }


def as_text(measurement: PriceMeasurement) -> str:
    at = as_people_read(measurement.measured_at)
    how = capfirst(measurement.get_how_display())
    return f"{how} at {at}; ISBNdb counted {measurement.counts or 'nothing'}. {measurement.note}".rstrip()
