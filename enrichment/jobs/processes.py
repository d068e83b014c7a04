"""Names this process and its machine, so that the machine can tell when the process of a job has ended."""

import os
import socket
import uuid
from functools import cache
from pathlib import Path

from enrichment.models import Job


def this_process() -> dict[str, str | int]:
    """The columns of a job that name its runner."""
    return {"host": _machine(), "pid": os.getpid()}


def has_ended(job: Job) -> bool:
    """Whether the process that ran the job is known to have ended: it ran on this machine, and is gone."""
    if job.host != _machine() or job.pid is None:
        return False
    try:
        os.kill(job.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


@cache
def _machine() -> str:
    """The name of this machine, and of the boot and container in which its process ids are valid."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        numbers = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # not Linux: no process id can be trusted
        boot, numbers = uuid.uuid4().hex[:8], 0
    return f"{socket.gethostname()} ({boot}-{numbers})"
