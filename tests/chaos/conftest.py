from tests.fixtures import consumer, sandbox, set_clock

__all__ = ["consumer", "sandbox", "set_clock"]
