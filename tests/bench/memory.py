"""Whether the memory of web and worker processes stays flat under steady load.

`python -m tests.bench.memory [MINUTES]` starts the whole service with the sandbox, on a data folder of its own, and
lets clients of the API work steadily. Each minute it prints the resident memory of the processes. It exits with 1 when
one of them is larger in the last third than in the second one by more than MAX_GROWTH. It takes MINUTES: 2 unless told,
10 for the whole.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from random import Random

import httpx2
import psutil  # type: ignore[import-untyped]

from alexandria.development import stack
from alexandria.development.sandbox import isbns
from tests import environment
from tests.api_keys import make_key

CLIENTS = 3
PAUSE = 0.2
"""Seconds between two requests of a client."""
MAX_GROWTH = 0.05
SETTINGS = {
    "SECRET_KEY": "only-for-the-benchmark-" * 3,
    "API_REQUESTS_PER_MINUTE": "0",
    "QUOTA_MAX_RPS": "50",
    "QUOTA_DAILY_LIMIT": "1000000",
    "MAX_JOBS_PER_CONSUMER": "1000",
}


def run(minutes: float = 2) -> bool:
    """Prints the figures. False when a process grows."""
    samples: dict[str, list[float]] = defaultdict(list)
    steps = 12 if minutes < 6 else round(2 * minutes)
    with (
        tempfile.TemporaryDirectory(prefix="alexandria-memory-") as folder,
        stack.running(data_dir=Path(folder) / "data", environment=environment.documented() | SETTINGS) as service,
    ):
        over = threading.Event()
        answers: dict[int, int] = defaultdict(int)
        key = make_key(service, "bench")
        clients = [
            threading.Thread(target=work, args=(service.base_url, key, n, over, answers)) for n in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        try:
            for _ in range(steps):
                time.sleep(60 * minutes / steps)
                for name, size in sizes(service).items():
                    samples[name].append(size)
        finally:
            over.set()
            for client in clients:
                client.join()
    return show(samples, answers, minutes)


def show(samples: dict[str, list[float]], answers: dict[int, int], minutes: float) -> bool:
    good = True
    print(f"\nMemory (MB resident) over {minutes:g} minutes of steady load, answers {dict(answers)}:")
    for name, megabytes in sorted(samples.items()):
        third = len(megabytes) // 3
        growth = statistics.mean(megabytes[-third:]) / statistics.mean(megabytes[third : 2 * third]) - 1
        good &= growth <= MAX_GROWTH
        shown = " ".join(f"{size:.0f}" for size in megabytes)
        print(f"  {name:16} {shown}   growth {growth:+.1%} (at most {MAX_GROWTH:.0%})")
    return good


def sizes(service: stack.Stack) -> dict[str, float]:
    """The resident memory of each process of the service in MB, by its name and number."""
    found = {}
    for process in service.processes:
        if process.name != "sandbox":
            parent = psutil.Process(process.popen.pid)
            children = sorted(parent.children(recursive=True), key=lambda child: child.pid)
            for number, each in enumerate([parent, *children]):
                found[f"{process.name} {number or 'parent'}"] = each.memory_info().rss / 1e6
    return found


def work(number: int, url: str, key: str, over: threading.Event, answers: dict[int, int]) -> None:
    """A client: batches, jobs, the queue, look-ups, searches, books, status."""
    dice = Random(number)
    with httpx2.Client(base_url=url, headers={"Authorization": f"Api-Key {key}"}, timeout=120) as http:
        while not over.wait(PAUSE):
            some = [isbns.isbn13_at(7_000 + dice.randrange(20), dice.randrange(500)) for _ in range(100)]
            requests = [
                lambda: http.post("/api/enrich/batch-direct", json={"isbns": some[:20], "return": "books"}),  # noqa: B023
                lambda: http.post("/api/enrich/queue", json={"isbns": some[:20]}),  # noqa: B023
                lambda: http.post("/api/books/lookup", json={"isbns": some}),  # noqa: B023
                lambda: http.get("/api/books", params={"title": "the", "page_size": 50}),
                lambda: http.get(f"/api/books/{some[0]}"),  # noqa: B023
                lambda: http.get("/api/quota/status"),
                lambda: http.get("/metrics"),
                lambda: http.post(
                    "/api/enrich/batch-direct",
                    json={"isbns": some},  # noqa: B023
                    headers={"Prefer": "respond-async", "Idempotency-Key": f"{number} {time.monotonic()}"},
                ),
            ]
            answers[dice.choice(requests)().status_code] += 1


if __name__ == "__main__":
    sys.exit(0 if run(float(sys.argv[1]) if len(sys.argv) > 1 else 2) else 1)
