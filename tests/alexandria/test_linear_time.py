"""What strangers send is read in linear time: twice the text takes twice the time, never four times."""

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.test import RequestFactory
from rest_framework.request import Request

from alexandria.api.bodies import names_charset
from alexandria.monitoring.logs import without_secrets
from enrichment.api.jobs import prefers_job
from enrichment.authors.names import NamesUnreadable, read_names
from enrichment.authors.splitting import CannotTell, Style, split
from enrichment.isbn.files import read_text
from enrichment.isbn.parsing import InvalidIsbn, parse
from enrichment.isbn.scanning import scan
from enrichment.isbn.suggestions import with_zeros

TRIES = 5
"""A busy machine makes one try slow, but not each of them."""

PIECES = ['"', '\\"', ",", "://", "a:", ":", "token", 'token="', "bearer ", "=", "(", "( ", "1 ", "1-", "978-", "X"]
PIECES += [".0", "<a ", "&", "; charset", "1900 ", "b. ", " ", "and ", ", a ", "é", "1900-", "ISBN", ",isbn", "www."]


def prefers(text: str) -> None:
    prefers_job(Request(RequestFactory().get("/", headers={"Prefer": f'"{text}'})))


def masked(text: str) -> None:
    without_secrets(None, "", f"http://{text}")


def seconds(read: Callable[[str], object], text: str) -> float:
    """The CPU time of the fastest of three runs."""
    times = []
    for _ in range(3):
        began = time.thread_time()
        with suppress(InvalidIsbn, CannotTell, NamesUnreadable):
            read(text)
        times.append(time.thread_time() - began)
    return min(times)


def names(text: str) -> None:
    read_names(f"x {text}".encode())


def authors(text: str) -> None:
    split(text, Style())


def _is_slow(read: Callable[[str], object], piece: str) -> bool:
    """Whether twice the text takes much more than twice the time."""
    text = piece * (8_000 // len(piece))
    return seconds(read, text * 2) > 3 * seconds(read, text) + 0.002


@pytest.mark.parametrize("read", [prefers, masked, names_charset, parse, scan, with_zeros, read_text, names, authors])
def test_twice_the_text_takes_about_twice_the_time(read: Callable[[str], object]) -> None:
    slow = [piece for piece in PIECES if all(_is_slow(read, piece) for _ in range(TRIES))]
    assert not slow
