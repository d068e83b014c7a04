"""The guard of a stack: a process beside it that ends what the stack has started, should the stack be killed first.

It learns the ids of the stack's processes on its stdin. When that ends without a word of farewell, nobody is left to
stop them, and it does. It holds the stack's lock as long, so that the next stack starts on clean ground.
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
SECONDS_TO_END = 15  # before it is done by force


class Guard:
    """Starts the guard. `services`: the embedded ones that end with the stack; `lock`: the descriptor of its lock."""

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
        """Lets it know the leader of a session that ends with the stack."""
        self._say(str(process))

    def dismiss(self) -> None:
        """Everything has ended as it should: lets the guard go, and waits until it has."""
        self._say(FAREWELL)
        with suppress(BrokenPipeError):
            self._popen.communicate()

    def _say(self, line: str) -> None:
        if self._popen.stdin:
            with suppress(BrokenPipeError):
                self._popen.stdin.write(f"{line}\n")


def main(data_dir: Path, services: Sequence[str], lines: Iterable[str]) -> None:
    said = [line.strip() for line in lines]
    if FAREWELL in said:
        return
    sys.stderr.write(f"The stack on {data_dir} was killed. What it has started is being stopped.\n")
    leaders = [int(line) for line in said]
    for leader in leaders:
        with suppress(ProcessLookupError):
            os.kill(leader, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_END
    while any(_is_there(leader) for leader in leaders) and time.monotonic() < deadline:
        time.sleep(0.05)
    for leader in leaders:
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)
    servers.stop(services, data_dir)


def _is_there(leader: int) -> bool:
    """Whether anyone of the session is left."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:], sys.stdin)
