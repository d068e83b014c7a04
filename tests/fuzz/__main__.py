"""`make fuzz CASES=`: schemathesis, with all its checks, against the running service, once with each kind of key.

It starts the whole service with the sandbox, on a data folder of its own. For each operation of the API and of ISBNdb's
interface it sends the examples, the edges of each parameter, and up to CASES random requests. Checks that are left out
are in schemathesis.toml, with the reasons. The exit code is 1 when an answer is not in the schema, or is a 5xx.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from alexandria.development import stack
from tests import environment
from tests.api_keys import make_key
from tests.enrichment.isbndb.contract import as_answered

PROGRAM = Path(sys.executable).with_name("schemathesis")
CONFIG = Path(__file__).with_name("schemathesis.toml")
SETTINGS = {
    "SECRET_KEY": "only-for-the-fuzz-" * 4,
    "API_REQUESTS_PER_MINUTE": "0",
    "QUOTA_MAX_RPS": "1000",
    "QUOTA_DAILY_LIMIT": "5000",  # some requests meet the end of the day
}
OURS, OF_ISBNDB = "the API", "/isbndb"
NOT_OF_ISBNDB = "positive_data_acceptance,negative_data_rejection,unsupported_method"
"""ISBNdb's file is a contract for what is answered. It says little about what is refused."""


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("--cases", type=int, default=int(os.environ.get("CASES") or 50), help="(%(default)s)")
    options.add_argument(
        "--seed", type=int, default=int(time.time()) % 100_000, help="the same seed, the same requests"
    )
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="alexandria-fuzz-") as folder:
        data = Path(folder) / "data"
        with stack.running(data_dir=data, environment=environment.documented() | SETTINGS) as running:
            contract = Path(folder) / "isbndb.json"
            contract.write_text(json.dumps(as_answered()))
            keys = make_keys(running)
            failed = [
                f"{place} with {whose}"
                for whose, key in keys.items()
                for place in (OURS, OF_ISBNDB)
                if not fuzz(running.base_url, place, whose, key, contract, given.cases, given.seed, Path(folder))
            ]
    print(f"\nSeed {given.seed}. " + (f"Failed: {', '.join(failed)}." if failed else "Every answer is in its schema."))
    return 1 if failed else 0


def make_keys(running: stack.Stack) -> dict[str, str | None]:
    """A key of each kind. Wrong ones come last: they slow down all requests of their address."""

    keys: dict[str, str | None] = {
        "a consumer's key": make_key(running, "reader"),
        "a manager's key": make_key(running, "manager", "--sees-all"),
        "a key without a budget": make_key(running, "poor", "--daily-budget", "0"),
        "the key of a consumer that is switched off": make_key(running, "off"),
        "no key": None,
        "a wrong key": "12345678.wrong",
    }
    switch_off = "from quota.models import Consumer; Consumer.objects.filter(slug='off').update(active=False)"
    running.manage("shell", "-c", switch_off)
    return keys


def fuzz(
    url: str, place: str, whose: str, key: str | None, contract: Path, cases: int, seed: int, folder: Path
) -> bool:
    """Runs schemathesis. Prints its findings; False when there are any."""
    command = [str(PROGRAM), "--config-file", str(CONFIG), "run"]
    command += [f"{url}/api/schema/"] if place == OURS else [str(contract), "--url", url]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(cases)]
    command += ["--exclude-checks", NOT_OF_ISBNDB] if place == OF_ISBNDB else []
    command += ["--seed", str(seed), "--continue-on-failure", "--no-shrink", "--warnings", "off"]
    command += ["--request-timeout", "120", "--suppress-health-check", "all"]
    if key:
        command += ["--header", f"Authorization: {'' if place == OF_ISBNDB else 'Api-Key '}{key}"]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    [*counts] = re.findall(r"^ *(\d.* generated.*)$", done.stdout, re.MULTILINE)
    print(f"{place} with {whose}: {', '.join(counts) or 'no request'}, {time.monotonic() - began:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
