"""What became of each ISBN of an input: every list in gives a list out."""

from collections.abc import Mapping
from typing import NamedTuple

from enrichment.isbn.reading import Entry, GivenIsbns, State


class OfGiven:
    """The counts of an input, for a result that has it as `given`. requested = valid + invalid + duplicates."""

    given: GivenIsbns

    @property
    def requested(self) -> int:
        """Number of ISBNs given, and of values that are none."""
        return self.given.requested

    @property
    def valid(self) -> int:
        """Number of different valid ISBNs among them."""
        return len(self.given.valid)

    @property
    def invalid(self) -> list[Entry]:
        return self.given.invalid

    @property
    def duplicates(self) -> int:
        return self.given.duplicates


class Outcome(NamedTuple):
    """What became of an ISBN, or of a value that is none."""

    input: str
    isbn13: str | None
    state: str
    """`duplicate`, `invalid`, or what became of the ISBN."""
    reason: str
    """Why it failed or is invalid; otherwise empty."""
    suggestion: str | None
    """What was probably meant by an invalid value."""


def outcomes(given: GivenIsbns, states: Mapping[str, str], reasons: Mapping[str, str]) -> list[Outcome]:
    """The outcomes in the order given. `states` and `reasons`: by ISBN-13; every valid one has a state."""
    return [
        Outcome(
            input=entry.input,
            isbn13=entry.isbn13,
            state=states[entry.isbn13] if entry.isbn13 and entry.state is State.VALID else entry.state.value,
            reason=entry.reason or (reasons.get(entry.isbn13 or "", "") if entry.state is State.VALID else ""),
            suggestion=entry.suggestion,
        )
        for entry in given.entries
    ]
