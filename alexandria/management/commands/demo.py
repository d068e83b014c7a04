"""`manage.py demo`: enriches books from end to end, at both prices of a batch, and checks every step."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
from django.core.management.base import CommandError
from rich.console import Console
from rich.table import Column, Table

from alexandria.common.commands import ToolCommand, ToolConsole
from alexandria.common.text import as_people_read, counted
from alexandria.development import stack
from alexandria.development.embedded import servers
from alexandria.development.sandbox.isbns import isbn13_at

ISBNS = Path(__file__).parents[2] / "development" / "data" / "demo_isbns.txt"
SAFETY_LIMIT = 232
# The demo ignores the local configuration: it has its own servers and sandbox and spends no real calls. "" means unset.
OWN_STACK = dict.fromkeys(
    (
        "DATABASE_URL",
        "REDIS_URL",
        "ALLOWED_HOSTS",
        "QUOTA_ENFORCEMENT",
        "QUOTA_MAX_RPS",
        "ISBNDB_API_KEY",
        "ISBNDB_BASE_URL",
        "ISBNDB_BATCH_SIZE",
        "ISBNDB_TIMEOUT_SECONDS",
        "EDITION_FRESH_DAYS",
        "MISS_REMEMBER_DAYS",
    ),
    "",
)
# A day has few calls: the list by the ISBN, the list by the request, and some small batches. So it ends soon.
OWN_STACK |= {"QUOTA_DAILY_LIMIT": "240", "QUOTA_SAFETY_BUFFER": "8"}
MAX_BOOKS_SHOWN = 12
SECONDS_NEEDED = 240
SLOT, LIST_SLOT = 7_000, 7_001  # of books that the sandbox invents


class Mismatch(Exception):
    """A result differs from the expected result."""


class Command(ToolCommand):
    help = (
        "Starts its own stack on free ports, and enriches ISBNs over HTTP: a list of real ones on a plan that charges "
        "by the ISBN, and as many others on one that charges by the request. Uses the quota up to its limit, and "
        "compares our count with ISBNdb's. It always uses the sandbox for ISBNdb and the embedded PostgreSQL and "
        "Redis, and ignores your configuration. Exit codes: 0 all results are as expected, 1 a result is not, with the "
        "reason."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        servers.private_folder(servers.data_dir())
        folder = Path(tempfile.mkdtemp(prefix="demo-", dir=servers.data_dir()))
        console = ToolConsole()
        try:
            console.print(
                "Alexandria with a small day: 240 calls, where your plan sells thousands. A limit this small is a toy. "
                "It lets the demo reach the end of a day in a minute.\n"
            )
            with demo_of(console, folder, "isbn") as demo:
                by_isbn = demo.by_the_isbn()
            console.print(
                "\nThe plan changes: ISBNdb charges by the request now, and ISBNDB_BATCH_PRICE says so. Restart …"
            )
            with demo_of(console, folder, "request") as demo:
                by_request = demo.by_the_request(by_isbn)
                demo.show_prices([by_isbn, by_request])
                demo.to_the_limit()
        except (Mismatch, stack.StackError, servers.EmbeddedError, httpx2.HTTPError) as error:
            raise CommandError(f"The demo failed: {error}") from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted. Everything is stopped.", returncode=130) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        console.print("\n[bold green]All results are as expected.[/] Start a service to try yourself with `make run`.")


@dataclass(frozen=True)
class Priced:
    """The list under one price of a batch: its cost in calls, and both counts after it."""

    batch_price: str
    calls: int
    isbns: int
    used: int
    isbndb_spent: int


@contextmanager
def demo_of(console: Console, folder: Path, batch_price: str) -> Iterator["Demo"]:
    """A demo on its own stack, on a plan that charges a batch in this way. The data of the folder is kept."""
    environment = OWN_STACK | {"ISBNDB_BATCH_PRICE": batch_price}

    def show(name: str, line: str) -> None:
        if name == "run":  # not the lines of the processes
            console.print(line, style="dim", highlight=False)

    with stack.running(data_dir=folder, environment=environment, show=show) as running:
        key = running.manage("create_api_key", f"demo-{batch_price}").strip()
        headers = {"Authorization": f"Api-Key {key}"}
        with httpx2.Client(base_url=running.base_url, headers=headers, timeout=120, trust_env=False) as client:
            yield Demo(console, running, client)


class Demo:
    def __init__(self, console: Console, running: stack.Stack, client: httpx2.Client) -> None:
        self.console = console
        self.running = running
        self.client = client
        lines = ISBNS.read_text().splitlines()
        self.isbns = [line for line in lines if line.strip() and not line.startswith("#")]

    def by_the_isbn(self) -> Priced:
        self.avoid_midnight()
        before = self.status()
        if before["safety_limit"] != SAFETY_LIMIT:  # the demo uses up the quota, so it must be its own
            raise Mismatch(f"this is not the demo's stack: safety limit {before['safety_limit']}, not {SAFETY_LIMIT}")
        self.title("1. The quota before")
        self.show_status(before)
        self.isbndb_count()
        self.console.print("GET /key reads ISBNdb's own counter. This costs a call, too: 1 call is used now.")

        self.title(f"2. A plan by the ISBN: {len(self.isbns)} lines of ISBNs as people write them")
        answer = self.enrich({"isbns": self.isbns, "source": "demo"})
        self.show_enrichment(answer)
        self.show_books(self.isbns)
        self.show_unknown(answer)
        expect(self.console, "calls for the whole list", answer["api_calls"], answer["valid"])
        parts = answer["already_fresh"] + answer["enriched"] + answer["not_found"] + answer["failed"]
        expect(self.console, "distinct ISBNs accounted for", parts, answer["valid"])
        expect(self.console, "books that could not be stored", answer["failed"], 0)
        priced = self.priced(answer)

        self.title("3. The same list again")
        again = self.enrich({"isbns": self.isbns, "source": "demo"})
        self.console.print(
            f"{again['already_fresh']} ISBNs are stored and fresh, {again['not_found']} are known to be missing. "
            f"Nothing has to be requested: {counted(again['api_calls'], 'call')} spent."
        )
        expect(self.console, "calls for the second request", again["api_calls"], 0)
        self.running.manage("quota_status", "--check", "--json")
        return priced

    def by_the_request(self, before: Priced) -> Priced:
        self.title("4. A plan by the request: as many other books")
        others = [isbn13_at(LIST_SLOT, number) for number in range(before.isbns)]
        answer = self.enrich({"isbns": others, "source": "demo"})
        self.show_enrichment(answer)
        expect(self.console, "calls for the whole list", answer["api_calls"], 1)
        expect(self.console, "calls used", self.status()["used"], before.used + 1)
        return self.priced(answer)

    def priced(self, answer: dict[str, Any]) -> Priced:
        """What the list cost. Our count must be ISBNdb's, which the sandbox tells without counting that."""
        used, state = self.status()["used"], httpx2.get(f"{self.sandbox}/_sandbox/state", trust_env=False).json()
        expect(self.console, "ISBNdb's count is ours", state["spent"], used)
        return Priced(state["plan"]["batch_price"], answer["api_calls"], answer["valid"], used, state["spent"])

    def show_prices(self, plans: list[Priced]) -> None:
        self.title("5. Both prices, and what a wrong guess would have counted")
        calls = f"calls for {plans[0].isbns} books"
        table = Table("ISBNdb charges by the", calls, "ISBNdb counts", "we count", "a wrong guess counts")
        for plan in plans:
            guess = plan.used - plan.calls + (1 if plan.batch_price == "isbn" else plan.isbns)
            figures = (plan.calls, plan.isbndb_spent, plan.used, guess)
            table.add_row(plan.batch_price, *(str(figure) for figure in figures))
        self.console.print(table)
        self.console.print("Too high, and paid calls stay unused. Too low, and ISBNdb's limit comes without a warning.")

    def to_the_limit(self) -> None:
        self.title("6. To the limit, with requests for 3 new books each, which cost 1 call")
        new = ({"isbns": [isbn13_at(SLOT, 3 * number + book) for book in range(3)]} for number in count())
        while self.status()["remaining"] > 1:
            expect(self.console, "calls for 3 books", self.enrich(next(new))["api_calls"], 1)
        last_count = self.isbndb_count()
        refused = self.client.post("/api/enrich/batch-direct", json=next(new))
        self.show_refusal(refused)
        expect(self.console, "status of a request above the limit", refused.status_code, 429)
        expect(self.console, "limit that refused it", refused.json()["limit"], "safety_limit")

        self.title("7. ISBNdb's own counter")
        after = self.status()
        self.show_status(after)
        self.console.print(f"ISBNdb counts {counted(last_count['isbndb_spent'], 'call')}, we count {after['used']}.")
        expect(self.console, "calls used", after["used"], SAFETY_LIMIT)
        expect(self.console, "ISBNdb's count", last_count["isbndb_spent"], after["used"])

    def avoid_midnight(self) -> None:
        """Waits until after midnight UTC if it is near: both counts then restart, and the demo compares them."""
        _, _, seconds = self.client.get("/api/quota/status").headers["RateLimit"].rpartition("t=")
        if int(seconds) < SECONDS_NEEDED:
            self.console.print(f"It is nearly midnight UTC, when the quota restarts. Waiting {seconds} s.")
            time.sleep(int(seconds) + 3)

    @property
    def sandbox(self) -> str:
        return self.running.environment["ISBNDB_BASE_URL"]

    def status(self) -> dict[str, Any]:
        return self.json(self.client.get("/api/quota/status"))

    def enrich(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.json(self.client.post("/api/enrich/batch-direct", json=body))

    def isbndb_count(self) -> dict[str, Any]:
        counted_there: dict[str, Any] = json.loads(self.running.manage("isbndb_key", "--json"))
        return counted_there

    def json(self, response: httpx2.Response) -> dict[str, Any]:
        if response.status_code != 200:
            raise Mismatch(f"{response.request.method} {response.request.url} answered {response.text}")
        body: dict[str, Any] = response.json()
        return body

    def title(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/]")

    def show_status(self, status: dict[str, Any]) -> None:
        reset_at = as_people_read(datetime.fromisoformat(status["reset_at"]))
        self.console.print(
            f"used {status['used']}, reserved {status['reserved']}, free {status['remaining']} of "
            f"{status['safety_limit']} (daily limit at ISBNdb: {status['daily_limit']}); reset at {reset_at}"
        )

    def show_enrichment(self, answer: dict[str, Any]) -> None:
        invalid = len(answer["invalid"])
        table = Table("lines", "invalid", "duplicates", "distinct ISBNs", "stored", "unknown to ISBNdb", "calls", "ms")
        figures = (
            answer["requested"],
            invalid,
            answer["duplicates"],
            answer["valid"],
            answer["enriched"],
            answer["not_found"],
        )
        table.add_row(*(str(figure) for figure in (*figures, answer["api_calls"], answer["duration_ms"])))
        self.console.print(table)
        self.console.print("lines = invalid + duplicates + distinct ISBNs; distinct ISBNs = stored + unknown to ISBNdb")
        if named := ", ".join(f"{entry['isbn']} ({entry['reason']})" for entry in answer["invalid"][:4]):
            self.console.print(f"The answer lists the invalid ones, for example: {named}", markup=False)

    def show_books(self, isbns: list[str]) -> None:
        table = Table(Column("ISBN", no_wrap=True), "title", "authors", "published", "publisher", "pages")
        for isbn in isbns:
            response = self.client.get(f"/api/books/{isbn.strip()}")
            if response.status_code == 200:
                book = response.json()
                authors = ", ".join(author["name"] for author in book["authors"])
                pages = str(book["pages"] or "")
                table.add_row(book["isbn13"], book["title"], authors, book["date_published"], book["publisher"], pages)
            if table.row_count == MAX_BOOKS_SHOWN:
                break
        self.console.print(table)

    def show_unknown(self, answer: dict[str, Any]) -> None:
        isbn = answer["not_found_isbns"][0]
        asked_again_at = as_people_read(datetime.fromisoformat(answer["ask_again_at"][isbn]))
        self.console.print(
            f"{isbn} is one of the {answer['not_found']} that ISBNdb does not know. Alexandria remembers that, so the "
            f"next request for it costs nothing until {asked_again_at}."
        )

    def show_refusal(self, response: httpx2.Response) -> None:
        self.console.print(f"HTTP {response.status_code} {response.reason_phrase}")
        for name in ("Retry-After", "RateLimit"):
            self.console.print(f"{name}: {response.headers.get(name)}", markup=False, highlight=False)
        problem = response.json()
        for name in ("type", "detail", "limit", "limit_reason", "calls_asked", "calls_free", "retry_at", "refusal"):
            if name in problem:
                self.console.print(f"  {name}: {problem[name]}", markup=False, highlight=False)
        used, remaining = (problem["quota"][name] for name in ("used", "remaining"))
        self.console.print(f"  quota: used {used}, remaining {remaining}, …")


def expect(console: Console, what: str, got: object, wanted: object) -> None:
    """Prints a result that is as expected. Raises Mismatch if it is not."""
    if got != wanted:
        raise Mismatch(f"{what}: {got!r} instead of {wanted!r}")
    console.print(f"[green]✓[/] {what}: {got}")
