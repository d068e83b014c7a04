from tests.fixtures import no_waits, set_clock

__all__ = ["no_waits", "set_clock"]
