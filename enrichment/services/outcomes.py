"""What became of each ISBN of an input: every list in gives a list out."""

from collections.abc import Mapping
from typing import NamedTuple

from enrichment.isbn.reading import GivenIsbns, State


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
