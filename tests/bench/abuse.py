"""What strangers can do to others through the nginx of docs/deploy.md: a flood of odd charsets, and log-ins at once.

`python -m tests.bench.abuse` starts the web processes with their usual settings, on a database of its own, and nginx.
It prints how long probes and API requests take alone, and how long meanwhile. It exits with 1 when they take too long.
"""

import logging
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.scratch import scratch_database  # isort: skip (first: it sets Django up)

import httpx2
import trustme
from django.contrib.auth.models import User

from quota.models import Consumer, ConsumerKey
from quota.services import reservations
from tests import processes
from tests.alexandria.serving import NGINX, is_listening, nginx_configuration, until

FLOOD, BODY = 18, b"a" * 300_000
LOG_INS = 20
PASSWORD = "a-good-long-password"
SECONDS = 5.0
"""How long requests are timed alone, and at least meanwhile."""
MOST_LIVEZ, MOST_RATIO = 2.0, 8.0
"""Seconds of the longest probe in the flood; and how many times as long the API's median is beside the log-ins."""


def run() -> bool:
    """Prints the figures. False when one is missed."""
    logging.disable(logging.WARNING)
    if NGINX is None:
        print("\nFlood and log-ins: not measured, because nginx is missing (make nginx).")
        return True
    with scratch_database(), TemporaryDirectory() as folder, serving(Path(folder)) as url:
        _, key = ConsumerKey.objects.create_key(name="bench", consumer=Consumer.objects.create(slug="bench"))
        reservations.open_ledger()
        for number in range(LOG_INS):
            User.objects.create_user(f"user-{number}", password=PASSWORD, is_staff=True)
        return min(flood(url), log_ins(url, key))


def flood(url: str) -> bool:
    """FLOOD requests at once without a key, each with a body that one of Python's codecs takes seconds for."""

    def ask(number: int) -> int:
        path, kind = [
            ("/api/enrich/batch-direct", "application/json"),
            ("/admin/login/", "application/x-www-form-urlencoded"),
            ("/isbndb/books", "application/json"),
        ][number % 3]
        with client(url) as http:
            headers = {"Content-Type": f"{kind}; charset=punycode"}
            return http.post(path, content=BODY, headers=headers).status_code

    with measured(url, "/livez") as alone:
        time.sleep(SECONDS)
    with measured(url, "/livez") as meanwhile, ThreadPoolExecutor(FLOOD) as threads:
        began = time.monotonic()
        answers = Counter(threads.map(ask, range(FLOOD)))
        took = time.monotonic() - began
        time.sleep(SECONDS)
    print(f"\n{FLOOD} requests of {len(BODY):,} bytes with charset=punycode, without a key, through nginx:")
    print(f"  answered {dict(answers)} in {took:.1f} s")
    print(f"  /livez alone      {shown(alone)}")
    print(f"  /livez meanwhile  {shown(meanwhile)} (at most {MOST_LIVEZ} s)")
    return max(meanwhile) <= MOST_LIVEZ


def log_ins(url: str, key: str) -> bool:
    """LOG_INS people log in at once, each from an address of their own. Who is told to wait, tries again."""

    def log_in(number: int) -> Counter[int]:
        answers: Counter[int] = Counter()
        with client(url, address=f"127.0.0.{10 + number}") as http:
            page = http.get("/admin/login/")
            [token] = set(re.findall(r'csrfmiddlewaretoken" value="(\w+)"', page.text))
            form = {"username": f"user-{number}", "password": PASSWORD, "csrfmiddlewaretoken": token}
            while not answers[302]:
                answer = http.post("/admin/login/", data=form, headers={"Referer": f"{url}/admin/login/"})
                answers[answer.status_code] += 1
                assert answer.status_code in {302, 429}, answer.text
                time.sleep(float(answer.headers.get("Retry-After", 0)))
        return answers

    with measured(url, "/api/quota/status", key) as alone:
        time.sleep(SECONDS)
    with measured(url, "/api/quota/status", key) as meanwhile, ThreadPoolExecutor(LOG_INS) as threads:
        began = time.monotonic()
        answers = sum(threads.map(log_in, range(LOG_INS)), Counter())
        took = time.monotonic() - began
    print(f"\n{LOG_INS} log-ins at once, with the usual number of iterations:")
    print(f"  all are logged in after {took:.1f} s; answers {dict(answers)}")
    print(f"  the API alone      {shown(alone)}")
    ratio = statistics.median(meanwhile) / statistics.median(alone)
    print(f"  the API meanwhile  {shown(meanwhile)}; ratio of the medians {ratio:.1f} (at most {MOST_RATIO})")
    return ratio <= MOST_RATIO


def shown(seconds: list[float]) -> str:
    return f"median {1000 * statistics.median(seconds):6.0f} ms, longest {1000 * max(seconds):6.0f} ms"


@contextmanager
def measured(url: str, path: str, key: str = "") -> Iterator[list[float]]:
    """Asks for the path one time after the other. The list has the seconds of each, until the block ends."""
    seconds: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with client(url) as http:
            while not over.wait(0.02):
                began = time.monotonic()
                answer = http.get(path, headers={"Authorization": f"Api-Key {key}"} if key else {})
                seconds.append(time.monotonic() - began)
                assert answer.status_code == 200, answer.text

    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ask)
        try:
            yield seconds
        finally:
            over.set()
        asking.result()


_authority = trustme.CA()


def client(url: str, address: str = "127.0.0.1") -> httpx2.Client:
    context = httpx2.create_ssl_context()
    _authority.configure_trust(context)
    return httpx2.Client(
        base_url=url, timeout=120, transport=httpx2.HTTPTransport(verify=context, local_address=address)
    )


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of nginx in front of web."""
    folder.chmod(0o755)  # nginx keeps bodies in it, as another user
    web, tls = processes.unused_port(), processes.unused_port()
    with ExitStack() as stack:
        variables = {"DEBUG": "on", "PORT": str(web), "API_REQUESTS_PER_MINUTE": "0"}
        variables |= {"TRUSTED_PROXIES": "127.0.0.1", "CSRF_TRUSTED_ORIGINS": f"https://localhost:{tls}"}
        running = processes.start("web", folder / "web.log", **variables)
        stack.callback(end(running))
        configuration = nginx_configuration(folder, _authority, port=tls, web=web)
        with (folder / "nginx.log").open("w") as log:
            proxy = subprocess.Popen([str(NGINX), "-c", str(configuration), "-p", str(folder)], stderr=log)
        stack.callback(end(proxy))
        until(lambda: is_listening(tls) and is_listening(web))
        yield f"https://localhost:{tls}"


def end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> Callable[[], object]:
    def stop() -> None:
        process.terminate()
        process.wait(60)

    return stop


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
