"""All processes of a machine write their metrics into files of one folder, so that each of them can serve all."""

import os
import socket
from pathlib import Path

from prometheus_client import disable_created_metrics, values
from prometheus_client.values import MultiProcessValue, MutexValue

HOST = socket.gethostname().replace("_", "-")  # prometheus-client splits file names at "_"
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # the name that prometheus-client uses


def measure_into(folder: str) -> None:
    """Makes this process write its metrics into the folder, or keep them in memory when the folder is "".

    settings.py calls it, because it must run before the first metric is created.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each metric, which nobody needs
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        values.ValueClass = MultiProcessValue(process_name)  # type: ignore[no-untyped-call]
    else:
        os.environ.pop(VARIABLE, None)  # it can be set and empty
        values.ValueClass = MutexValue


def process_name(pid: int | None = None) -> str:
    """The name of a process (by default ours) in the folder. Containers that share it can have the same process ids."""
    return f"{HOST}-{pid or os.getpid()}"
