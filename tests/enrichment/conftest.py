from tests.fixtures import (
    api,
    api_without_key_check,
    at,
    consumer,
    key,
    no_waits,
    one_at_a_time,
    plenty_left,
    sandbox,
    set_clock,
)

__all__ = [
    "api",
    "api_without_key_check",
    "at",
    "consumer",
    "key",
    "no_waits",
    "one_at_a_time",
    "plenty_left",
    "sandbox",
    "set_clock",
]
