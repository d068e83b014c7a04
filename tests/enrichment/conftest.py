from tests.fixtures import api, consumer, sandbox, set_clock

__all__ = ["api", "consumer", "sandbox", "set_clock"]
