import subprocess
import sys

FORKS = """
import os, signal
from alexandria.common import stopping
from alexandria.common.stopping import STOPPING

def forked(own):
    ready, said = os.pipe()
    if (pid := os.fork()) == 0:
        if own:
            signal.signal(signal.SIGTERM, lambda *_: os.write(said, b"!"))
            stopping.stop_on_sigterm()
        signal.signal(signal.SIGUSR1, lambda *_: os._exit(STOPPING.is_set()))
        os.write(said, b"!")
        while True:
            signal.pause()
    os.read(ready, 1)
    return pid, ready

def stops(child):
    pid, _ = child
    os.kill(pid, signal.SIGUSR1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

told, other, child_of_celery = forked(True), forked(True), forked(False)
os.kill(told[0], signal.SIGTERM)
os.read(told[1], 1)  # it has been told
print(stops(told), stops(other), STOPPING.is_set(), stops(forked(True)))
stopping.stop()
print(stops(child_of_celery), stops(forked(True)))
"""


def test_a_web_worker_that_ends_stops_no_other_and_a_celery_worker_stops_with_all_its_processes() -> None:
    ran = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.splitlines() == ["1 0 False 0", "1 0"]
