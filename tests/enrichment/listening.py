"""Acting, or looking, at the moment in which a request of ours has reached ISBNdb and is not answered yet."""

from collections.abc import Callable

from django.db import connection

from alexandria.sandbox.server import Sandbox


def on_request(sandbox: Sandbox, act: Callable[[int], None]) -> None:
    """Calls `act` with the number of each request from now on, from 1, in a thread and on a connection of its own."""
    meet = sandbox.faults.meet
    before = len(sandbox.requests)

    def act_and_meet(path: str) -> tuple[float, object]:
        try:
            act(len(sandbox.requests) - before)
        finally:
            connection.close()
        return meet(path)

    sandbox.faults.meet = act_and_meet  # type: ignore[assignment]


def pages_asked(sandbox: Sandbox) -> list[tuple[int, int]]:
    """Page and page size of each listing request, in order."""
    fields = (dict(pair.split("=") for pair in request["query"].split("&")) for request in sandbox.requests)
    return [(int(found["page"]), int(found["pageSize"])) for found in fields]
