"""`make mutants`: puts each fault of the list into a copy of the code, and says whether the tests notice it.

A fault is noticed when one of the tests that it names fails. First these tests run without a fault. Ends with 1 when
less than NOTICED of the faults are noticed, or when one cannot be tried.
"""

import os
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from tests import conftest  # it starts the servers of a run of tests
from tests.mutants.faults import Fault, read_faults
from tests.mutants.workspace import Verdict, Workspace

NOTICED = 0.95
"""The share of the faults that the tests must notice."""


class Trial:
    """Tries faults in several workspaces at once."""

    def __init__(self, workspaces: list[Workspace]) -> None:
        self.workspaces = workspaces
        self._idle = SimpleQueue[Workspace]()
        for workspace in workspaces:
            self._idle.put(workspace)

    def tests_pass(self, tests: Collection[str]) -> bool:
        """Whether the tests pass without a fault: each workspace runs a part of them, and gets its database."""
        count = len(self.workspaces)
        parts = [sorted(tests)[number::count] for number in range(count)]
        with self._threads() as threads:
            verdicts = list(threads.map(lambda work: work[0].run(work[1]), zip(self.workspaces, parts, strict=True)))
        for verdict in verdicts:
            if verdict != Verdict():
                say(f"Without a fault, this fails: {verdict.noticed_by or verdict.trouble}")
        return all(verdict == Verdict() for verdict in verdicts)

    def unnoticed(self, faults: list[Fault]) -> list[Fault]:
        """Tries each fault with its tests. Returns those that are not noticed, in their order."""
        left: set[Fault] = set()
        with self._threads() as threads:
            trials = {threads.submit(self._try, fault): fault for fault in faults}
            for number, trial in enumerate(as_completed(trials), start=1):
                verdict, seconds = trial.result()
                fault = trials[trial]
                report(f"{number}/{len(faults)}", fault, verdict, seconds)
                if not verdict.noticed_by:
                    left.add(fault)
        return [fault for fault in faults if fault in left]

    def unnoticed_by_suite(self, faults: list[Fault]) -> list[Fault]:
        """The same with all tests, one fault after the other."""
        left = []
        for number, fault in enumerate(faults, start=1):
            began = time.monotonic()
            verdict = self.workspaces[0].run_suite(fault, workers=len(self.workspaces) + 1)
            report(f"all tests, {number}/{len(faults)}", fault, verdict, time.monotonic() - began)
            if not verdict.noticed_by:
                left.append(fault)
        return left

    def stop(self) -> None:
        for workspace in self.workspaces:
            workspace.stop()

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """A thread for each workspace. If the block ends early, as with Ctrl-C, what they do ends too."""
        with ThreadPoolExecutor(len(self.workspaces)) as threads:
            try:
                yield threads
            except BaseException:
                self.stop()
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _try(self, fault: Fault) -> tuple[Verdict, float]:
        workspace, began = self._idle.get(), time.monotonic()
        try:
            return workspace.run(fault.tests, fault), time.monotonic() - began
        finally:
            self._idle.put(workspace)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def report(number: str, fault: Fault, verdict: Verdict, seconds: float) -> None:
    if verdict.noticed_by:
        say(f"[{number}] {fault.name}: noticed by {verdict.noticed_by} ({seconds:.0f} s)")
    elif verdict.trouble:
        say(f"[{number}] {fault.name}: NOT TRIED. {verdict.trouble}")
    else:
        say(f"[{number}] {fault.name}: NOT NOTICED ({seconds:.0f} s). {fault.file}: {fault.breaks}")


def chosen(faults: list[Fault], names: list[str]) -> list[Fault]:
    """The faults of these areas, and those whose names begin so; all without names."""
    found = [fault for fault in faults if not names or fault.area in names or fault.name.startswith(tuple(names))]
    if not found:
        sys.exit(f"There is no area {' or '.join(names)}, and no fault whose name begins so. --list lists them.")
    return found


def run(faults: list[Fault], *, jobs: int, with_suite: bool) -> bool:
    """Tries the faults, and says what came of it. Whether enough of them are noticed."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        workspaces = [Workspace(number, Path(folder) / str(number)) for number in range(1, jobs + 1)]
        trial = Trial(workspaces)
        try:
            for workspace in workspaces:
                workspace.copy_code()
            tests = {test for fault in faults for test in fault.tests}
            say(f"{len(faults)} faults. First their tests without a fault ...")
            if not trial.tests_pass(tests):
                return False
            left = trial.unnoticed(faults)
            if with_suite:
                left = trial.unnoticed_by_suite(left)
        finally:
            trial.stop()
            for workspace in workspaces:
                workspace.drop_database()
    noticed = len(faults) - len(left)
    say(f"{noticed} of {len(faults)} faults are noticed: {100 * noticed / len(faults):.1f} %.")
    if left:
        say(f"Not noticed: {', '.join(fault.name for fault in left)}.")
    return noticed >= NOTICED * len(faults)


def main() -> bool:
    parser = ArgumentParser(prog="make mutants ARGS=", description=__doc__)
    parser.add_argument("--only", metavar="NAME", nargs="+", default=[], help="an area, or how names begin")
    parser.add_argument("--all", action="store_true", help="try what is not noticed with all tests too; takes long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="faults at once (default: as many as cores)")
    parser.add_argument("--list", action="store_true", help="only list the faults")
    options = parser.parse_args()
    faults = chosen(read_faults(), options.only)
    if options.list:
        for fault in faults:
            say(f"{fault.area}: {fault.name} ({fault.file}): {fault.breaks}")
        return True
    misfits = [problem for fault in faults for problem in fault.problems()]
    for misfit in misfits:
        say(misfit)
    return not misfits and run(faults, jobs=min(options.jobs, len(faults)), with_suite=options.all)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as with Ctrl-C, the servers and the tests end too
    try:
        succeeded = main()
    finally:
        conftest.pytest_unconfigure()
    sys.exit(0 if succeeded else 1)
