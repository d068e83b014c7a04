"""Books, works, authors and misses in the admin: search, links, and nothing to change."""

import json
import re
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from enrichment.books.decoding import decode_books
from enrichment.books.storage import remember_misses, store_books
from enrichment.models import Author, AuthorMiss, Edition, Miss, Work
from enrichment.services import feed
from tests.fixtures import known_isbns

pytestmark = pytest.mark.django_db
DUNE = "9780441172719"
OTHER = "9780804429573"


def store(*books: dict[str, Any]) -> None:
    store_books(decode_books(json.dumps({"data": books}).encode(), key="data").books)


def store_two() -> None:
    store(
        {"isbn13": DUNE, "title": "Dune", "authors": ["Frank Herbert", "Someone Else"], "date_published": "1990-09"},
        {
            "isbn13": OTHER,
            "title": "Emma",
            "authors": ["Jane Austen"],
            "subjects": ["<b>subject"],
            "synopsis": "<b>synopsis",
        },
    )
    remember_misses(["9791032305690"])


def page(client: Client, view: str, *args: object, **query: str) -> str:
    response = client.get(reverse(f"admin:enrichment_{view}", args=args), query)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize(
    "written", ["978-0-441-17271-9", "0441172717", "ISBN 0-441-17271-7", "dun", "978-0-4411", "herbert, frank"]
)
def test_an_edition_is_found_by_isbn_title_or_author(admin_client: Client, written: str) -> None:
    store_two()
    found = page(admin_client, "edition_changelist", q=written)
    assert DUNE in found
    assert OTHER not in found


def test_the_list_of_editions_shows_authors_and_partial_dates(admin_client: Client) -> None:
    store_two()
    shown = page(admin_client, "edition_changelist")
    assert "Frank Herbert; Someone Else" in shown
    assert "1990-09<" in shown


def test_a_longer_list_needs_no_more_queries(admin_client: Client) -> None:
    store_two()
    with CaptureQueriesContext(connection) as few:
        page(admin_client, "edition_changelist")
    store(*({"isbn10": isbn, "title": isbn, "authors": ["A", "B"]} for isbn in ("0198526636", "097522980X")))
    with CaptureQueriesContext(connection) as many:
        page(admin_client, "edition_changelist")
    assert Edition.objects.count() == 4
    assert len(many) == len(few)


@pytest.mark.parametrize("model", ["edition", "work", "author", "miss"])
def test_every_page_is_read_only(admin_client: Client, model: str) -> None:
    store_two()
    shown = page(admin_client, f"{model}_changelist")
    assert f"/admin/enrichment/{model}/add/" not in shown
    pk = apps.get_model("enrichment", model)._default_manager.values_list("pk", flat=True)[0]
    detail = page(admin_client, f"{model}_change", pk)
    assert 'name="_save"' not in detail
    assert "deletelink" not in detail
    assert admin_client.post(reverse(f"admin:enrichment_{model}_change", args=[pk]), {}).status_code == 403


def test_text_from_isbndb_is_escaped(admin_client: Client) -> None:
    store_two()
    detail = page(admin_client, "edition_change", OTHER)
    assert "&lt;b&gt;synopsis" in detail
    assert "<b>synopsis" not in detail
    assert "<b>subject" not in detail


def test_an_edition_shows_the_origin_of_each_field_and_loads_nothing_from_other_hosts(admin_client: Client) -> None:
    store(
        {"isbn13": DUNE, "title": "Dune", "authors": ["Frank Herbert"], "image": "https://images.isbndb.com/a.jpg"},
        {"isbn13": "9780441013593", "title": "Dune", "authors": ["Herbert, Frank"], "publisher": "<i>Ace"},
    )
    response = admin_client.get(reverse("admin:enrichment_edition_change", args=[DUNE]))
    first, *_ = response.text.split('id="fields"')
    for shown in (">Dune</h2>", "Herbert", DUNE, "0441172717", ">Open the cover</a>"):
        assert shown in first
    assert response.text.index('id="fields"') < response.text.index("Created at")
    fields = {field.name: field for field in response.context["fields"]}
    assert fields["title"].sent == {"title": '"Dune"'}
    assert fields["isbn10"].sent == {}
    assert fields["isbn10"].value == "0441172717"
    assert "<img" not in response.text
    assert re.search(r'href="https://images.isbndb.com/a.jpg" rel="noreferrer', response.text)
    assert reverse("admin:enrichment_edition_change", args=["9780441013593"]) in response.text
    assert "&lt;i&gt;Ace" in response.text
    assert "&quot;image&quot;: &quot;https://images.isbndb.com/a.jpg&quot;" in response.text
    assert admin_client.get(reverse("admin:enrichment_edition_change", args=["9780804429573"])).status_code == 302


def test_a_page_offers_its_history_only_if_there_is_one(admin_client: Client, admin_user: User) -> None:
    store({"isbn13": DUNE, "title": "Dune"})
    book = Edition.objects.get(pk=DUNE)
    history = reverse("admin:enrichment_edition_history", args=[DUNE])
    assert history not in page(admin_client, "edition_change", DUNE)
    LogEntry.objects.log_actions(admin_user.pk, [book], CHANGE, change_message="Refreshed.", single_object=True)
    assert history in page(admin_client, "edition_change", DUNE)


@pytest.mark.slow
def test_no_search_reads_a_whole_table(admin_client: Client) -> None:
    store(*({"isbn13": isbn, "title": f"Book {isbn}", "authors": [f"A {isbn}"]} for isbn in known_isbns(300)))
    sought: list[tuple[str, str]] = []
    with CaptureQueriesContext(connection) as queries:
        for model, term in (("edition", "book 97800"), ("work", "book 97800"), ("author", "a 97800"), ("miss", DUNE)):
            page(admin_client, f"{model}_changelist", q=term)
            sought += [(model, query["sql"]) for query in queries if f'"enrichment_{model}"' in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")  # with so few rows a sequential scan would be faster
        for model, sql in sought:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert f"Seq Scan on enrichment_{model}" not in plan
            assert "COUNT(*) AS" not in sql.split("FROM")[0] or model in {"work", "author"}
        cursor.execute("RESET enable_seqscan")


@pytest.mark.slow
def test_a_work_and_an_author_link_to_their_editions(admin_client: Client) -> None:
    store_two()
    work, author = Work.objects.get(title="Dune"), Author.objects.get(name="Frank Herbert")
    for listing, query in (
        ("work_changelist", f"work__id__exact={work.pk}"),
        ("author_changelist", f"authors__id__exact={author.pk}"),
    ):
        address = f"{reverse('admin:enrichment_edition_changelist')}?{query}"
        assert address in page(admin_client, listing)
        shown = admin_client.get(address).content.decode()
        assert DUNE in shown
        assert OTHER not in shown


def test_a_miss_is_found_by_an_isbn_in_any_form(admin_client: Client) -> None:
    remember_misses([DUNE, OTHER])
    found = page(admin_client, "miss_changelist", q="0-441-17271-7")
    assert DUNE in found
    assert OTHER not in found


def test_a_miss_says_from_when_isbndb_is_asked_again(admin_client: Client) -> None:
    Miss.objects.create(isbn13=DUNE, asked_at="2026-05-05T12:00:00Z", step=2)
    AuthorMiss.objects.create(name="Herbert, Franc", asked_at="2026-05-05T12:00:00Z")
    assert "2026-05-12 12:00" in page(admin_client, "miss_changelist")
    found = page(admin_client, "authormiss_changelist", q="Herb")
    assert "Herbert, Franc" in found
    assert "2026-05-06 12:00" in found
    assert "Herbert" not in page(admin_client, "authormiss_changelist", q="herb")


def test_the_page_of_the_feed_says_what_ended_the_following(admin_client: Client) -> None:
    feed.start_run(from_the_beginning=True, run="run:1")
    feed.record_gap("Page 3 was skipped.", run="run:7")
    shown = page(admin_client, "feedfollowing_changelist")
    assert "Page 3 was skipped." in shown
    assert "run:7" in shown
