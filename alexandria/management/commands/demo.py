"""`manage.py demo`: enriches real ISBNs from end to end, and checks every step."""

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Column, Table

from alexandria.common.text import counted
from alexandria.development import stack
from alexandria.development.embedded import servers

ISBNS = Path(__file__).parents[2] / "development" / "data" / "demo_isbns.txt"
SAFETY_LIMIT = 8
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
# A day has only 8 calls, so that the demo reaches the limit within seconds.
OWN_STACK |= {"QUOTA_DAILY_LIMIT": "10", "QUOTA_SAFETY_BUFFER": "2"}
MAX_BOOKS_SHOWN = 12
SECONDS_NEEDED = 120


class Mismatch(Exception):
    """A result differs from the expected result."""


class Command(BaseCommand):
    help = (
        "Starts its own stack on free ports, enriches a list of real ISBNs over HTTP, repeats the request, uses the "
        "quota up to its limit, and compares our count with ISBNdb's. It always uses the sandbox for ISBNdb and the "
        "embedded PostgreSQL and Redis, and ignores your configuration. Exit codes: 0 all results are as expected, "
        "1 a result is not, with the reason."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        servers.private_folder(servers.data_dir())
        folder = Path(tempfile.mkdtemp(prefix="demo-", dir=servers.data_dir()))
        console = Console()
        try:
            console.print("Starting PostgreSQL, Redis, ISBNdb, web, workers and beat …")
            with stack.running(data_dir=folder, environment=OWN_STACK) as running:
                key = running.manage("create_api_key", "demo").strip()
                headers = {"Authorization": f"Api-Key {key}"}
                with httpx2.Client(base_url=running.base_url, headers=headers, timeout=120, trust_env=False) as client:
                    Demo(console, running, client).run()
        except (Mismatch, stack.StackError, servers.EmbeddedError, httpx2.HTTPError) as error:
            raise CommandError(f"The demo failed: {error}") from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted. Everything is stopped.", returncode=130) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        console.print("\n[bold green]All results are as expected.[/] Start a service to try yourself with `make run`.")


class Demo:
    def __init__(self, console: Console, running: stack.Stack, client: httpx2.Client) -> None:
        self.console = console
        self.running = running
        self.client = client

    def run(self) -> None:
        self.avoid_midnight()
        before = self.status()
        if before["safety_limit"] != SAFETY_LIMIT:  # the demo uses up the quota, so it must be its own
            raise Mismatch(f"this is not the demo's stack: safety limit {before['safety_limit']}, not {SAFETY_LIMIT}")
        self.title("1. The quota before")
        self.show_status(before)
        self.isbndb_count()
        self.console.print("GET /key reads ISBNdb's own counter. This costs a call, too: 1 call is used now.")

        lines = ISBNS.read_text().splitlines()
        isbns = [line for line in lines if line.strip() and not line.startswith("#")]
        self.title(f"2. POST /api/enrich/batch-direct with {len(isbns)} lines of ISBNs as people write them")
        answer = self.enrich({"isbns": isbns, "source": "demo"})
        self.show_enrichment(answer)
        self.show_books(isbns)
        expect(self.console, "calls for the whole list", answer["api_calls"], 1)
        parts = answer["already_fresh"] + answer["enriched"] + answer["not_found"] + answer["failed"]
        expect(self.console, "distinct ISBNs accounted for", parts, answer["valid"])
        expect(self.console, "books that could not be stored", answer["failed"], 0)

        self.title("3. The quota after")
        self.show_status(self.status())
        self.console.print("2 calls: one for ISBNdb's counter in step 1, and one for the whole list in step 2.")
        expect(self.console, "calls used", self.status()["used"], before["used"] + 2)

        self.title("4. The same list again")
        again = self.enrich({"isbns": isbns, "source": "demo"})
        self.console.print(
            f"{again['already_fresh']} ISBNs are stored and fresh, {again['not_found']} are known to be missing. "
            f"Nothing has to be requested: {counted(again['api_calls'], 'call')} spent."
        )
        expect(self.console, "calls for the second request", again["api_calls"], 0)
        self.running.manage("quota_status", "--check", "--json")

        self.title("5. To the limit, with requests that refresh 3 books each and cost 1 call")
        refresh = {"isbns": isbns[:3], "refresh": True, "source": "demo"}
        while self.status()["remaining"] > 1:
            self.enrich(refresh)
        last_count = self.isbndb_count()
        refused = self.client.post("/api/enrich/batch-direct", json=refresh)
        self.show_refusal(refused)
        expect(self.console, "status of a request above the limit", refused.status_code, 429)
        expect(self.console, "limit that refused it", refused.json()["limit"], "safety_limit")

        self.title("6. ISBNdb's own counter")
        after = self.status()
        self.show_status(after)
        self.console.print(f"ISBNdb counts {counted(last_count['isbndb_spent'], 'call')}, we count {after['used']}.")
        expect(self.console, "calls used", after["used"], after["safety_limit"])
        expect(self.console, "ISBNdb's count", last_count["isbndb_spent"], after["used"])

    def avoid_midnight(self) -> None:
        """Waits until after midnight UTC if it is near: both counts then restart, and the demo compares them."""
        _, _, seconds = self.client.get("/api/quota/status").headers["RateLimit"].rpartition("t=")
        if int(seconds) < SECONDS_NEEDED:
            self.console.print(f"It is nearly midnight UTC, when the quota restarts. Waiting {seconds} s.")
            time.sleep(int(seconds) + 3)

    def status(self) -> dict[str, Any]:
        return self.json(self.client.get("/api/quota/status"))

    def enrich(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.json(self.client.post("/api/enrich/batch-direct", json=body))

    def isbndb_count(self) -> dict[str, Any]:
        count: dict[str, Any] = json.loads(self.running.manage("isbndb_key", "--json"))
        return count

    def json(self, response: httpx2.Response) -> dict[str, Any]:
        if response.status_code != 200:
            raise Mismatch(f"{response.request.method} {response.request.url} answered {response.text}")
        body: dict[str, Any] = response.json()
        return body

    def title(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/]")

    def show_status(self, status: dict[str, Any]) -> None:
        self.console.print(
            f"used {status['used']}, reserved {status['reserved']}, free {status['remaining']} of "
            f"{status['safety_limit']} (daily limit at ISBNdb: {status['daily_limit']}); reset at {status['reset_at']}"
        )

    def show_enrichment(self, answer: dict[str, Any]) -> None:
        invalid = len(answer["invalid"])
        duplicates = answer["requested"] - invalid - answer["valid"]
        table = Table("lines", "invalid", "duplicates", "distinct ISBNs", "stored", "unknown to ISBNdb", "calls", "ms")
        figures = (answer["requested"], invalid, duplicates, answer["valid"], answer["enriched"], answer["not_found"])
        table.add_row(*(str(figure) for figure in (*figures, answer["api_calls"], answer["duration_ms"])))
        self.console.print(table)
        self.console.print("lines = invalid + duplicates + distinct ISBNs; distinct ISBNs = stored + unknown to ISBNdb")
        named = ", ".join(f"{entry['isbn']} ({entry['reason']})" for entry in answer["invalid"][:4])
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

    def show_refusal(self, response: httpx2.Response) -> None:
        self.console.print(f"HTTP {response.status_code} {response.reason_phrase}")
        for name in ("Content-Type", "Retry-After", "RateLimit-Policy", "RateLimit"):
            self.console.print(f"{name}: {response.headers.get(name)}", markup=False, highlight=False)
        self.console.print_json(response.text)


def expect(console: Console, what: str, got: object, wanted: object) -> None:
    """Prints a result that is as expected. Raises Mismatch if it is not."""
    if got != wanted:
        raise Mismatch(f"{what}: {got!r} instead of {wanted!r}")
    console.print(f"[green]✓[/] {what}: {got}")
