"""Random choices that depend only on a seed text: the same on every machine and in every version of Python."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


class SeededRandom:
    """Enough randomness for about sixty choices from one seed."""

    def __init__(self, seed: str) -> None:
        self._left = int.from_bytes(blake2b(seed.encode()).digest(), "big")

    def below(self, number: int) -> int:
        """A whole number from 0 to `number` - 1."""
        self._left, chosen = divmod(self._left, number)
        return chosen

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def chance(self, per_cent: int) -> bool:
        return self.below(100) < per_cent
