"""What the processes of one machine measure, in files of a folder that they share, for any of them to show."""

import os
import socket
from pathlib import Path

from prometheus_client import disable_created_metrics, values
from prometheus_client.values import MultiProcessValue, MutexValue

HOST = socket.gethostname().replace("_", "-")  # prometheus-client splits the files' names at "_"
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own


def measure_into(folder: str) -> None:
    """Lets this process measure into the folder, which is made, or into its own memory when it is "".

    For settings.py: the first metric of all must come later.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which nobody looks at
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        values.ValueClass = MultiProcessValue(process_name)  # type: ignore[no-untyped-call]
    else:
        os.environ.pop(VARIABLE, None)  # which may be there and empty
        values.ValueClass = MutexValue


def process_name(pid: int | None = None) -> str:
    """A process's name in the folder, our own by default: containers that share it have process ids in common."""
    return f"{HOST}-{pid or os.getpid()}"
