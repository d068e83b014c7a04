"""Wrong API keys: an address that has sent many is refused without a query, and without a hash."""

from collections import OrderedDict
from hashlib import sha256
from threading import Lock
from time import monotonic

MINUTE = 60.0
MAX_WRONG_KEYS = 20
"""Wrong keys of one address in a minute, in one process."""

MAX_ADDRESSES = 10_000
MAX_RIGHT_KEYS = 10_000


class WrongKeys:
    """What this process has seen of keys. It forgets the oldest first, so it stays small.

    A key that was right before is always looked up: behind a proxy that is not trusted, all clients have one address.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """When the minute of an address began (on the monotonic clock), and its wrong keys since."""
        self._right: OrderedDict[bytes, None] = OrderedDict()
        """The digests of keys that were right."""

    def seconds_to_wait(self, address: str, key: str) -> float:
        """How long the address has to wait before the key is looked up; 0: not at all."""
        with self._lock:
            began, wrong = self._wrong.get(address, (0.0, 0))
            if wrong < MAX_WRONG_KEYS or _digest(key) in self._right:
                return 0.0
            return max(0.0, began + MINUTE - monotonic())

    def add_wrong(self, address: str) -> None:
        now = monotonic()
        with self._lock:
            began, wrong = self._wrong.pop(address, (now, 0))
            self._wrong[address] = (began, wrong + 1) if now < began + MINUTE else (now, 1)
            while len(self._wrong) > MAX_ADDRESSES:
                self._wrong.popitem(last=False)

    def add_right(self, key: str) -> None:
        with self._lock:
            self._right[_digest(key)] = None
            self._right.move_to_end(_digest(key))
            while len(self._right) > MAX_RIGHT_KEYS:
                self._right.popitem(last=False)


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
