from tests.fixtures import api, api_past_the_door, at, consumer, key, sandbox, set_clock

__all__ = ["api", "api_past_the_door", "at", "consumer", "key", "sandbox", "set_clock"]
