import pytest
from django.test import Client


@pytest.fixture
def isbndb(key: str) -> Client:
    """A client of ISBNdb's own interface, with the key of `consumer` as ISBNdb takes it."""
    return Client(raise_request_exception=False, headers={"Authorization": key})
