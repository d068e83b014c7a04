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


def ran_here(job: Job) -> bool:
    """Whether the process that runs the job, or ran it, is of this machine. Its process id means nothing elsewhere."""
    return job.pid is not None and job.host == _machine()


def is_alive(job: Job) -> bool:
    """Whether the process that runs the job is known to live: it runs on this machine."""
    return ran_here(job) and _exists(job.pid)


def has_ended(job: Job) -> bool:
    """Whether the process that ran the job is known to have ended: it ran on this machine, and is gone."""
    return ran_here(job) and not _exists(job.pid)


def _exists(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


@cache
def _machine() -> str:
    """The name of this machine, and of the boot and container in which its process ids are valid."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        numbers = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # not Linux: no process id can be trusted
        boot, numbers = uuid.uuid4().hex[:8], 0
    return f"{socket.gethostname()} ({boot}-{numbers})"
