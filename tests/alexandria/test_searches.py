"""A search leaves the database to others: it has a time limit of its own, and wants a text that an index can find."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from alexandria.common import searching
from tests.fixtures import problem

pytestmark = pytest.mark.django_db(transaction=True)

API_SEARCHES = ["/api/books?title=dune", "/api/authors?search=herbert", "/api/authors/top"]


@contextmanager
def editions_and_authors_that_are_slow_to_read() -> Iterator[None]:
    """Another session locks the tables, and searches have a time limit that ends before they give up the lock."""
    settings: dict[str, Any] = connection.get_connection_params()
    for name in ("context", "cursor_factory", "prepare_threshold"):
        settings.pop(name, None)
    with psycopg.connect(**settings) as other, patch.object(searching, "MAX_SECONDS", 0.2):
        other.execute("LOCK TABLE enrichment_edition, enrichment_author, enrichment_editionauthor")
        yield


@pytest.mark.parametrize("path", API_SEARCHES)
def test_a_search_of_the_api_ends_in_time_and_says_what_to_do(path: str, api: APIClient) -> None:
    with editions_and_authors_that_are_slow_to_read():
        body = problem(api.get(path), 503)
    assert body["code"] == "search_too_slow"
    assert "Search for more or longer words" in body["detail"]
    assert api.get(path).status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("15s",)


@pytest.mark.parametrize("path", ["edition/?q=dune", "work/?q=9780441013593", "author/?q=herbert", "edition/?p=500"])
def test_a_search_of_the_admin_ends_in_time_and_says_what_to_do(path: str, admin_user: User, client: Client) -> None:
    client.force_login(admin_user)
    with editions_and_authors_that_are_slow_to_read():
        page = client.get(f"/admin/enrichment/{path}")
    assert page.status_code == 503
    assert "Search for more or longer words" in page.content.decode()
    assert client.get(f"/admin/enrichment/{path}").status_code == 200


def test_the_counts_of_isbndbs_interface_end_in_time(api: APIClient) -> None:
    with editions_and_authors_that_are_slow_to_read():
        assert api.get("/isbndb/stats").status_code == 503


@pytest.mark.parametrize("text", ["%", "_", "a", "% _ !", "-9-", "\u00e9"])
@pytest.mark.parametrize("parameter", ["title", "author", "publisher", "search"])
def test_a_text_without_two_letters_or_digits_is_refused_by_the_name_of_its_parameter(
    parameter: str, text: str, api: APIClient
) -> None:
    path = "/api/authors" if parameter == "search" else "/api/books"
    body = problem(api.get(path, {parameter: text}), 400)
    assert [(error["field"], error["detail"]) for error in body["errors"]] == [
        (parameter, "It must contain at least 2 letters or digits.")
    ]


@pytest.mark.parametrize("text", ["%", "_", "a"])
@pytest.mark.parametrize("model", ["edition", "work", "author"])
def test_the_admin_does_not_search_for_a_text_without_two_letters_or_digits(
    model: str, text: str, admin_user: User, client: Client
) -> None:
    client.force_login(admin_user)
    page = client.get(f"/admin/enrichment/{model}/", {"q": text})
    assert page.status_code == 200
    assert "Search for at least 2 letters or digits." in page.content.decode()
    assert len(page.context["cl"].result_list) == 0
