"""Shares of the threads of this process: what can take long takes a turn, so that short requests find a thread.

Nothing waits for a turn, because waiting needs a thread too. A turn belongs to the thread, and ends with its request.
Outside a web request nobody is named, and nothing is refused.
"""

import threading
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.signals import request_finished, request_started

RETRY_AFTER = 1
"""Seconds after which a request that was refused is worth another try."""

LONG_BODY = 100_000
"""Bytes. To read a longer body takes long."""


class TooManyAtOnce(Exception):
    """The request takes long, and no thread is free for it now. Nothing was done."""


class _Here(threading.local):
    who = ""
    """Who has sent the request of this thread; "": not known."""


_here = _Here()
_lock = threading.Lock()
_taken: dict[int, str] = {}
"""Who has a turn, by the id of the thread."""


def name_sender(who: str) -> None:
    """Says who has sent the request of this thread: a key, a user, an address."""
    _here.who = who


def take_turn() -> None:
    """Takes a turn for the request of this thread, unless it has one. Raises TooManyAtOnce.

    All turns together are half of the threads. One sender has MAX_LONG_REQUESTS of them.
    """
    if not (who := _here.who):
        return
    all_turns = max(1, settings.WEB_THREADS // 2)
    thread = threading.get_ident()
    with _lock:
        if thread in _taken:
            return
        if (yours := list(_taken.values()).count(who)) >= settings.MAX_LONG_REQUESTS:
            raise TooManyAtOnce(f"{yours} requests of yours that take long are under way. Wait until one ends.")
        if len(_taken) >= all_turns:
            raise TooManyAtOnce("Too many requests that take long are under way. Try again soon.")
        _taken[thread] = who


def take_turn_for_body(environ: Mapping[str, Any]) -> None:
    """Takes a turn for a request with a long body. Raises TooManyAtOnce."""
    if (body_length(environ) or 0) > LONG_BODY:
        take_turn()


def body_length(environ: Mapping[str, Any]) -> int | None:
    """Bytes of the body by its head; None for a Content-Length that is no number."""
    length = environ.get("CONTENT_LENGTH") or "0"
    return int(length) if length.isdecimal() else None


def end_turn(**_: Any) -> None:
    """Gives the turn of this thread back, if it has one."""
    _here.who = ""
    with _lock:
        _taken.pop(threading.get_ident(), None)


# The beginning too: a request whose answer was never closed must not keep its turn.
request_started.connect(end_turn, dispatch_uid="turns")
request_finished.connect(end_turn, dispatch_uid="turns")
