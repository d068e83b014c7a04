"""The endpoints under /_sandbox/. Tests and people use them to read the state and to cause faults. Not counted."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from alexandria.development.sandbox.api import Answer
from alexandria.development.sandbox.faults import KINDS, Fault, Faults
from alexandria.development.sandbox.plan import BATCH_PRICES, LIMIT_ANSWERS, RATE_HEADERS


def _listed(meanings: Mapping[str, str]) -> str:
    return "\n".join(f"  {name:<19} {meaning}" for name, meaning in meanings.items())


HELP = f"""\
GET    /_sandbox/state    day, spent, limit, the most requests in a second, active faults and the latest requests
POST   /_sandbox/faults   add a fault: kind, times (null: until deleted), path (prefix), seconds, status, body,
                          headers, calls
DELETE /_sandbox/faults   delete all faults
POST   /_sandbox/limits   daily_limit, max_rps (null: no limit), spent (today); each is optional
POST   /_sandbox/plan     batch_price (request, isbn), key_price (0, 1), feed_price (0, 1), limit_answer, rate_headers
                          (a list), counter_lag (seconds), charge_failed (true, false); each is optional
POST   /_sandbox/clock    offset_seconds: difference to the machine's clock, to test midnight
Kinds of faults:
{_listed(KINDS)}
Answers above the daily limit (limit_answer):
{_listed({name: f"{status} {json.dumps(body)}" for name, (status, body) in LIMIT_ANSWERS.items()})}
Rate headers (rate_headers):
{_listed(RATE_HEADERS)}
"""


class Controlled(Protocol):
    """What these endpoints need of the class `Sandbox`, which imports this module."""

    faults: Faults

    def state(self) -> dict[str, Any]: ...
    def clear_faults(self) -> None: ...
    def set_limits(self, *args: Any, **limits: Any) -> None: ...
    def set_plan(self, **terms: Any) -> None: ...
    def set_clock(self, *, offset_seconds: float) -> None: ...


class BadInput(ValueError):
    """A field is missing, unknown or invalid."""

    def __init__(self, name: str, wanted: str) -> None:
        super().__init__(f"{name} must be {wanted}.")
        self.name = name


def answer(sandbox: Controlled, method: str, path: str, body: bytes) -> Answer:
    """Answers a request under /_sandbox/: 200 with the state, 400 naming the field, or 404."""
    try:
        match method, path.removeprefix("/_sandbox/"):
            case "GET", "state":
                pass
            case "POST", "faults":
                sandbox.faults.add(fault(_object(body)))
            case "DELETE", "faults":
                sandbox.clear_faults()
            case "POST", "limits":
                sandbox.set_limits(**limits(_object(body)))
            case "POST", "plan":
                sandbox.set_plan(**_object(body))
            case "POST", "clock":
                sandbox.set_clock(**_checked(_object(body), {"offset_seconds": (_number, "a number of seconds")}))
            case _:
                return Answer(404, {"message": "Not Found"})
    except BadInput as error:
        return Answer(400, {"field": error.name, "message": str(error)})
    return Answer(200, sandbox.state())


def fault(given: dict[str, Any]) -> Fault:
    """The fault that a JSON object describes. Raises BadInput."""
    if "kind" not in given:
        raise BadInput("kind", "given")
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "kind": (lambda value: isinstance(value, str) and value in KINDS, f"one of {', '.join(KINDS)}"),
        "times": (lambda value: value is None or (_whole(value) and value >= 1), "a whole number from 1, or null"),
        "path": (lambda value: value is None or (isinstance(value, str) and value.startswith("/")), "a path, or null"),
        "seconds": (lambda value: _number(value) and 0 <= value <= 3600, "a number from 0 to 3600"),
        "status": (lambda value: value is None or (_whole(value) and 200 <= value <= 599), "from 200 to 599, or null"),
        "body": (lambda _: True, "anything"),
        "headers": (_headers, "an object with strings as values"),
        "calls": (_whole, "a whole number"),
    }
    return Fault(**_checked(given, rules))


def limits(given: dict[str, Any]) -> dict[str, Any]:
    """The limits in a JSON object, as arguments of `Sandbox.set_limits`. Raises BadInput."""
    return _checked(
        given,
        {
            "daily_limit": (lambda value: _whole(value) and value >= 0, "a whole number from 0"),
            "max_rps": (
                lambda value: value is None or (_whole(value) and value >= 1),
                "a whole number from 1, or null",
            ),
            "spent": (lambda value: _whole(value) and value >= 0, "a whole number from 0"),
        },
    )


def plan(given: dict[str, Any]) -> dict[str, Any]:
    """The terms of a plan in a JSON object, as fields of `Plan`. Raises BadInput."""
    terms = _checked(
        given,
        {
            "batch_price": (lambda value: value in BATCH_PRICES, f"one of {', '.join(BATCH_PRICES)}"),
            "key_price": (lambda value: _whole(value) and value in {0, 1}, "0 or 1"),
            "feed_price": (lambda value: _whole(value) and value in {0, 1}, "0 or 1"),
            "limit_answer": (
                lambda value: isinstance(value, str) and value in LIMIT_ANSWERS,
                f"one of {', '.join(LIMIT_ANSWERS)}",
            ),
            "rate_headers": (
                lambda value: (
                    isinstance(value, list | tuple)
                    and all(isinstance(name, str) and name in RATE_HEADERS for name in value)
                ),
                f"a list of some of {', '.join(RATE_HEADERS)}",
            ),
            "counter_lag": (lambda value: _number(value) and 0 <= value <= 3600, "a number from 0 to 3600"),
            "charge_failed": (lambda value: isinstance(value, bool), "true or false"),
        },
    )
    return terms | ({"rate_headers": tuple(terms["rate_headers"])} if "rate_headers" in terms else {})


def _object(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise BadInput("body", "a JSON object")
    return given


def _checked(given: dict[str, Any], rules: dict[str, tuple[Callable[[Any], bool], str]]) -> dict[str, Any]:
    for name, value in given.items():
        if name not in rules:
            raise BadInput(name, f"left out. The fields are {', '.join(rules)}")
        is_valid, wanted = rules[name]
        if not is_valid(value):
            raise BadInput(name, wanted)
    return given


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**9


def _headers(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(text, str) and text.isprintable() and text.isascii() for pair in value.items() for text in pair
    )
