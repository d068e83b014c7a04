"""The process reaper of a stack: a separate process that stops what the stack started if the stack itself is killed.

It reads the ids of the stack's processes on stdin. If stdin ends without FAREWELL, the stack was killed, and the reaper
stops its processes. It holds the stack's lock until then, so that no new stack can start before everything has ended.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from alexandria.development.embedded import servers
from alexandria.env import BASE_DIR

FAREWELL = "farewell"
SECONDS_TO_END = 15  # then the processes are killed


class ProcessReaper:
    """Starts the reaper. It stops the embedded `services`, too. `lock` is the descriptor of the stack's lock."""

    def __init__(self, data_dir: Path, services: Collection[str], lock: int) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "alexandria.development.process_reaper", str(data_dir), *services],
            cwd=BASE_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            pass_fds=[lock],
            start_new_session=True,
        )

    def watch(self, process: int) -> None:
        """Adds the leader of a session that must end with the stack."""
        self._send(str(process))

    def dismiss(self) -> None:
        """Ends the reaper, because everything has ended normally, and waits for its end."""
        self._send(FAREWELL)
        with suppress(BrokenPipeError):
            self._popen.communicate()

    def _send(self, line: str) -> None:
        if self._popen.stdin:
            with suppress(BrokenPipeError):
                self._popen.stdin.write(f"{line}\n")


def main(data_dir: Path, services: Sequence[str], lines: Iterable[str]) -> None:
    received = [line.strip() for line in lines]
    if FAREWELL in received:
        return
    sys.stderr.write(f"The stack on {data_dir} was killed. Stopping its processes.\n")
    leaders = [int(line) for line in received]
    for leader in leaders:
        with suppress(ProcessLookupError):
            os.kill(leader, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_END
    while any(_session_exists(leader) for leader in leaders) and time.monotonic() < deadline:
        time.sleep(0.05)
    for leader in leaders:
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)
    servers.stop(services, data_dir)


def _session_exists(leader: int) -> bool:
    """Whether a process of the session is left."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:], sys.stdin)
