"""`manage.py smoke`: checks a running instance over HTTP."""

import json as json_module
import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
from django.core.management.base import CommandError
from rich.table import Table

from alexandria.common.commands import ToolCommand, ToolConsole
from alexandria.common.http import certificate_error, trusted_certificates
from alexandria.common.text import as_people_read, counted
from harvest.bulk.server import Unusable, server_address, usable_key, why_redirected

KEY, REFUSED_KEY = "ALEXANDRIA_API_KEY", "ALEXANDRIA_REFUSED_KEY"
BATCH = "/api/enrich/batch-direct"
OTHER_ISBNS = ("9780735211292", "9780062316097", "9780441172719", "9780439023481")
REFUSED_ISBN = "9780141439518"
MAX_TRIES = 1 + len(OTHER_ISBNS)  # to see only our own call, if others spend calls at the same time


class Failed(Exception):
    """A check failed. The message says why."""


class Skipped(Exception):
    """A check was not made. The message says what it needs."""


@dataclass(frozen=True)
class Result:
    """One line of the table. `outcome` is ok, failed or skipped."""

    check: str
    outcome: str
    detail: str


class Command(ToolCommand):
    help = f"""Checks a running instance and prints the results. It spends 2 calls.

The check of the 429 needs a key of a consumer with a daily budget of 0, so that it does not disturb production:
manage.py create_api_key smoke --consumer smoke-refused (this consumer always exists).
You can set the keys in the environment: {KEY} and {REFUSED_KEY}.

exit codes:
  0  all checks passed
  1  a check failed (later checks were not made), or the options are invalid"""
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--server", required=True, metavar="URL", help="for example https://books.example")
        parser.add_argument("--api-key", default=os.environ.get(KEY), metavar="KEY", help=f"default: {KEY}")
        parser.add_argument(
            "--refused-key", default=os.environ.get(REFUSED_KEY), metavar="KEY", help=f"default: {REFUSED_KEY}"
        )
        parser.add_argument("--isbn", default="9780593135204", help="the ISBN to enrich (%(default)s)")
        parser.add_argument("--new-day", action="store_true", help="expect that no call of today is used yet")
        parser.add_argument("--json", action="store_true", help='[{"check", "outcome", "detail"}, …]')

    def handle(self, *args: Any, server: str, api_key: str | None, json: bool, **options: Any) -> None:
        if not api_key:
            raise CommandError(f"Give --api-key KEY, or set {KEY}.")
        try:
            server, api_key = server_address(server), usable_key(api_key)
            refused_key = usable_key(options["refused_key"]) if options["refused_key"] else None
        except Unusable as error:
            raise CommandError(str(error)) from error
        with httpx2.Client(base_url=server, timeout=60, verify=trusted_certificates(), trust_env=False) as client:
            checks = Checks(client, api_key, refused_key, options["isbn"], new_day=options["new_day"])
            results = list(checks.results())
        if json:
            self.stdout.write(json_module.dumps([asdict(result) for result in results], indent=2))
        else:
            ToolConsole().print(table(results))
        if any(result.outcome == "failed" for result in results):
            raise SystemExit(1)


class Checks:
    """The checks. Each returns what it found, or raises Failed or Skipped."""

    def __init__(self, client: httpx2.Client, key: str, refused_key: str | None, isbn: str, *, new_day: bool) -> None:
        self.client = client
        self.headers = {"Authorization": f"Api-Key {key}"}
        self.refused_key = refused_key
        self.isbn = isbn
        self.new_day = new_day

    def results(self) -> Iterator[Result]:
        """The results in order, up to the first failure."""
        checks: list[Callable[[], str]] = [
            self.status_is_reachable,
            self.reset_is_the_next_midnight,
            self.an_isbn_is_enriched_for_one_call,
            self.asking_again_is_free,
            self.a_reached_limit_is_a_429,
            self.the_price_of_a_batch_is_known,
            self.isbndbs_counter_equals_ours,
        ]
        for check in checks:
            name = check.__name__.replace("_", " ").replace("isbndbs", "ISBNdb's").replace("isbn ", "ISBN ")
            try:
                yield Result(name, "ok", check())
            except Skipped as reason:
                yield Result(name, "skipped", str(reason))
            except (Failed, httpx2.HTTPError, KeyError, TypeError, ValueError) as error:
                yield Result(name, "failed", self.explained(error))
                return

    def status_is_reachable(self) -> str:
        status = self.status()
        if self.new_day and status["used"]:
            raise Failed(f"{status['used']:,} of today's calls are used, but on a new day none should be.")
        return f"{status['used']:,} of {status['safety_limit']:,} calls used"

    def reset_is_the_next_midnight(self) -> str:
        reset_at = datetime.fromisoformat(self.status()["reset_at"])
        midnight = now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        if reset_at != midnight:
            raise Failed(f"reset_at is {reset_at.isoformat()}, but the next midnight UTC is {midnight.isoformat()}.")
        return as_people_read(reset_at)

    def an_isbn_is_enriched_for_one_call(self) -> str:
        """Tries again while other clients spend calls, until only our own call is visible."""
        risen = 0
        for isbn in (self.isbn, *OTHER_ISBNS):  # what was asked within a minute is not asked again
            before = self.status()["used"]
            answer = self.enrich(isbn, refresh=True)
            if answer.get("just_asked"):
                continue
            risen = self.status()["used"] - before
            if answer["api_calls"] != 1 or answer["enriched"] + answer["not_found"] != 1:
                raise Failed(f"{isbn}: {counted(answer['api_calls'], 'call')}, {answer['enriched']} enriched.")
            if risen == 1:
                return f"used rose by exactly 1, enriched {answer['enriched']}"
        if not risen:
            raise Failed("every ISBN of this check was asked within the last minute. Try again in a minute.")
        raise Failed(f"used rose by {risen} for 1 call, in {MAX_TRIES} tries: other clients spend calls all the time.")

    def asking_again_is_free(self) -> str:
        risen = 0
        for _ in range(MAX_TRIES):
            before = self.status()["used"]
            answer = self.enrich(self.isbn, refresh=False)
            risen = self.status()["used"] - before
            if answer["api_calls"] != 0:
                raise Failed(f"the second request for the ISBN cost {counted(answer['api_calls'], 'call')}.")
            if not risen:
                return "0 calls, and used did not rise"
        raise Failed(
            f"used rose by {risen} for 0 calls, in {MAX_TRIES} tries: it is not free, or other clients spend calls."
        )

    def a_reached_limit_is_a_429(self) -> str:
        if not self.refused_key:
            raise Skipped(f"needs a key of the consumer smoke-refused, in --refused-key or {REFUSED_KEY}")
        response = self.client.post(
            BATCH,
            json={"isbns": [REFUSED_ISBN], "refresh": True, "source": "smoke"},
            headers={"Authorization": f"Api-Key {self.refused_key}"},
        )
        if response.status_code != 429 or ("Retry-After" not in response.headers and response.json().get("retry_at")):
            raise Failed(f"status {response.status_code} instead of 429 with Retry-After: {response.text[:200]}")
        return f"429, {response.json()['limit']}"

    def the_price_of_a_batch_is_known(self) -> str:
        status = self.status()
        if status["batch_price"] == "unknown":
            raise Skipped(
                "the first batch of two or more ISBNs measures it; until then 1 call for each ISBN is charged"
            )
        return f"1 call for each {status['batch_price'].replace('isbn', 'ISBN')}"

    def isbndbs_counter_equals_ours(self) -> str:
        response = self.client.post("/api/quota/reconcile", headers=self.headers)
        if response.status_code == 429 and response.json()["code"] != "quota_exhausted":
            raise Skipped(response.json()["detail"])  # somebody has just asked
        counter = self.json(response)
        if counter["ignored"]:
            raise Skipped(f"ISBNdb counts {counted(counter['spent'], 'call')}. This was ignored: {counter['ignored']}")
        if counter["drift"] > 0:
            raise Failed(f"ISBNdb counts {counted(counter['spent'], 'call')}, we counted {counter['used']:,}.")
        if counter["drift"] < 0:
            return f"we count {counter['used']:,}, {-counter['drift']:,} more than ISBNdb, which is safe"
        return f"both count {counter['spent']:,}"

    def explained(self, error: Exception) -> str:
        if isinstance(error, httpx2.TransportError):
            return f"{self.client.base_url}: {certificate_error(error) or error or type(error).__name__}"
        return str(error) if isinstance(error, Failed) else repr(error)

    def status(self) -> dict[str, Any]:
        return self.json(self.client.get("/api/quota/status", headers=self.headers))

    def enrich(self, isbn: str, *, refresh: bool) -> dict[str, Any]:
        body = {"isbns": [isbn], "refresh": refresh, "source": "smoke"}
        return self.json(self.client.post(BATCH, json=body, headers=self.headers))

    def json(self, response: httpx2.Response) -> dict[str, Any]:
        if response.status_code != 200:
            request = f"{response.request.method} {response.request.url}"
            if response.is_redirect:
                raise Failed(why_redirected(str(response.request.url), response.headers["Location"]))
            raise Failed(f"{request} answered {response.status_code}: {response.text[:300]}")
        body: dict[str, Any] = response.json()
        return body


def now() -> datetime:
    return datetime.now(UTC)


def table(results: list[Result]) -> Table:
    marks = {"ok": "[green]✓[/]", "failed": "[red]✗[/]", "skipped": "[yellow]–[/]"}
    shown = Table("", "check", "found")
    for result in results:
        shown.add_row(marks[result.outcome], result.check, result.detail)
    return shown
