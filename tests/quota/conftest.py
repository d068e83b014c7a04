from tests.fixtures import api, committed_db, consumer, sandbox, set_clock

__all__ = ["api", "committed_db", "consumer", "sandbox", "set_clock"]
