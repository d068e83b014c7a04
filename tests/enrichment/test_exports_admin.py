"""The lists of books, works and authors in the admin as files: with the filters of the list, streamed."""

import csv
import json
from html import escape
from io import BytesIO, StringIO
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pymarc import MARCReader, parse_xml_to_array

from enrichment.models import Author, Edition, Work
from tests.enrichment.staff import member
from tests.enrichment.test_admin import DUNE, OTHER, store_two

pytestmark = pytest.mark.django_db
LISTS = {
    "edition": ["csv", "ndjson", "marc", "marcxml"],
    "work": ["csv", "ndjson"],
    "author": ["csv", "ndjson"],
}


@pytest.fixture(autouse=True)
def two_books() -> None:
    store_two()


def download(client: Client, name: str, form: str, **filters: str) -> bytes:
    answer: Any = client.get(f"/admin/enrichment/{name}/export-{form}/", filters)
    assert answer.status_code == 200
    assert answer.streaming
    return b"".join(answer.streaming_content)


def rows(client: Client, name: str, **filters: str) -> list[dict[str, str]]:
    content = download(client, name, "csv", **filters)
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(StringIO(content.decode("utf-8-sig"))))


def objects(client: Client, name: str, **filters: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in download(client, name, "ndjson", **filters).splitlines()]


def test_books_come_in_every_format(admin_client: Client) -> None:
    assert [row["isbn13"] for row in rows(admin_client, "edition")] == [DUNE, OTHER]
    dune, emma = objects(admin_client, "edition")
    assert (dune["authors"][0]["name"], emma["synopsis"]) == ("Frank Herbert", "<b>synopsis")
    marc = download(admin_client, "edition", "marc")
    assert [record["001"].data for record in MARCReader(BytesIO(marc)) if record] == [DUNE, OTHER]
    xml = parse_xml_to_array(BytesIO(download(admin_client, "edition", "marcxml")))
    assert [record["001"].data for record in xml] == [DUNE, OTHER]


@pytest.mark.parametrize(
    "filters",
    [
        {"q": "herbert"},
        {"q": "0441172717"},
        {"date_published_from": "1990-01-01", "date_published_to": "1991-01-01"},
        {"authors__id__exact": "author"},
    ],
)
def test_an_export_has_the_search_and_the_filters_of_the_list(admin_client: Client, filters: dict[str, str]) -> None:
    if "authors__id__exact" in filters:
        filters = {"authors__id__exact": str(Author.objects.get(name="Frank Herbert").pk)}
    assert [row["isbn13"] for row in rows(admin_client, "edition", **filters)] == [DUNE]
    page = admin_client.get("/admin/enrichment/edition/", filters).text
    assert f"/export-marc/?{escape(urlencode(filters))}" in page


def test_works_have_their_author_and_the_isbns_of_their_editions(admin_client: Client) -> None:
    work = Work.objects.get(title="Dune")
    Edition.objects.filter(pk=OTHER).update(work=work)
    [dune] = rows(admin_client, "work", q="Dune")
    assert dune == {
        "id": str(work.pk),
        "title": "Dune",
        "author": "Frank Herbert",
        "editions": "2",
        "isbns": f"{DUNE}; {OTHER}",
    }
    assert rows(admin_client, "work", q="9780") == [dune]
    both = objects(admin_client, "work")
    assert [(each["title"], each["author"], each["isbns"]) for each in both] == [
        ("Dune", "Frank Herbert", [DUNE, OTHER]),
        ("Emma", "Jane Austen", []),
    ]


def test_authors_have_the_number_of_their_editions(admin_client: Client) -> None:
    [herbert] = rows(admin_client, "author", q="herbert")
    assert herbert == {"id": str(Author.objects.get(name="Frank Herbert").pk), "name": "Frank Herbert", "editions": "1"}
    assert {author["name"] for author in objects(admin_client, "author")} == {
        "Frank Herbert",
        "Jane Austen",
        "Someone Else",
    }


@pytest.mark.slow
def test_viewers_can_export_and_who_cannot_view_cannot(client: Client) -> None:
    client.force_login(member("viewers"))
    for name, forms in LISTS.items():
        page = client.get(f"/admin/enrichment/{name}/").text
        for form in forms:
            assert f"/admin/enrichment/{name}/export-{form}/" in page
            assert download(client, name, form)
    other = User.objects.create_user("other", is_staff=True)
    other.user_permissions.add(Permission.objects.get(codename="view_job"))
    client.force_login(other)
    for name, forms in LISTS.items():
        assert {client.get(f"/admin/enrichment/{name}/export-{form}/").status_code for form in forms} == {403}
    assert client.get(f"/admin/enrichment/job/{uuid4()}/books.csv").status_code == 403
