"""Searches through tables of any size: bounded in time and in number, so that they leave the database to others."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction

from alexandria.common.database import sqlstate
from alexandria.common.turns import take_turn

MAX_SECONDS = 2
"""How long each statement of a search may take."""

MIN_CHARACTERS = 2
"""The letters and digits that a text must have at least: without them no index finds it."""

CANCELLED = "57014"
"""PostgreSQL's SQLSTATE of a statement that was cancelled, here because its time was over."""


class SearchTooSlow(Exception):
    """The search matches so much that PostgreSQL cannot find it in time."""

    def __init__(self) -> None:
        super().__init__(
            f"The search took more than {MAX_SECONDS} seconds and was stopped. Search for more or longer words, or add "
            "a criterion."
        )


@contextmanager
def searching() -> Iterator[None]:
    """Gives each statement of the block MAX_SECONDS. In a web request it takes a turn (turns.py).

    The block runs in a transaction, so that the limit ends with it, behind a pooler too. Raises SearchTooSlow and
    TooManyAtOnce.
    """
    take_turn()
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = %s", [f"{MAX_SECONDS}s"])
            yield
    except OperationalError as error:
        if sqlstate(error) != CANCELLED:
            raise
        raise SearchTooSlow from error


def is_searchable(text: str) -> bool:
    """Whether the text has enough letters and digits to be searched for."""
    return sum(character.isalnum() for character in text) >= MIN_CHARACTERS
