"""Finds stored editions, works and authors."""

from typing import Any

from django.db.models import Count, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Upper

from enrichment.books.fields import LONG_COLUMNS
from enrichment.books.match_keys import name_key, title_key
from enrichment.models import Author, Edition, EditionAuthor, Work

MAX_EDITIONS = 1000
"""The largest number of editions of a work in one answer."""


def find_books(
    *, title: str = "", author: str = "", author_id: int | None = None, publisher: str = "", year: int | None = None
) -> QuerySet[Edition]:
    """Finds the editions that match all criteria, unordered, with their works and authors, without their long texts.

    A text matches when the stored text contains it, or contains similar words. Titles and names match without regard
    to case, accents, punctuation and articles.
    """
    books = Edition.objects.defer(*LONG_COLUMNS).select_related("work").prefetch_related("author_links__author")
    if title:
        books = books.filter(work__in=find_works(title).order_by())
    if author:
        links = EditionAuthor.objects.filter(author__in=find_authors(author).order_by())
        books = books.filter(pk__in=links.order_by().values("edition_id"))
    if author_id is not None:
        links = EditionAuthor.objects.filter(author=author_id)
        books = books.filter(pk__in=links.order_by().values("edition_id"))
    if publisher:
        books = books.alias(publisher_upper=Upper("publisher")).filter(
            _resembles("publisher_upper", publisher, contains=Q(publisher__icontains=publisher))
        )
    if year is not None:
        books = books.filter(date_published__year=year)
    return books


def isbns_of(text: str) -> QuerySet[Any, Any]:
    """The ISBN-13s of editions whose title or one of whose authors matches as in `find_books`; for a subquery.

    It is a union, so that each half can use its own index.
    """
    of_works = Edition.objects.filter(work__in=find_works(text).order_by())
    of_authors = EditionAuthor.objects.filter(author__in=find_authors(text).order_by())
    return of_works.order_by().values("pk").union(of_authors.order_by().values("edition_id"))


def find_works(title: str) -> QuerySet[Work]:
    """The works whose titles contain `title` or similar words."""
    return Work.objects.filter(_resembles("title_key", title_key(title)))


def find_authors(name: str = "") -> QuerySet[Author]:
    """The authors whose names contain `name` or similar words; all authors when it is empty."""
    return Author.objects.filter(_resembles("name_key", name_key(name))) if name else Author.objects.all()


def with_editions(authors: QuerySet[Author]) -> QuerySet[Author]:
    """The authors with the number of their editions as `editions_count`."""
    links = EditionAuthor.objects.filter(author=OuterRef("pk")).order_by().values("author")
    return authors.annotate(editions_count=Coalesce(Subquery(links.annotate(n=Count("*")).values("n")), 0))


def top_authors(*, limit: int) -> list[Author]:
    """The authors with the most editions, with `editions_count`. Equal authors come in the order of their ids."""
    links = EditionAuthor.objects.order_by().values("author_id").annotate(n=Count("*"))
    ids = list(links.order_by("-n", "author_id").values_list("author_id", flat=True)[:limit])
    authors = with_editions(Author.objects.all()).in_bulk(ids)
    return [authors[author_id] for author_id in ids]


def get_author(author_id: int) -> Author | None:
    """The author with `editions_count` and `works_count`."""
    works = Edition.objects.filter(author_links__author=OuterRef("pk")).order_by().values("author_links__author")
    counted = Subquery(works.annotate(n=Count("work", distinct=True)).values("n"))
    return with_editions(Author.objects.filter(pk=author_id)).annotate(works_count=Coalesce(counted, 0)).first()


def get_work(work_id: int) -> Work | None:
    """The work with `editions_count`, and with its first MAX_EDITIONS editions by ISBN in `first_editions`."""
    editions = Prefetch("editions", find_books().order_by("pk")[:MAX_EDITIONS], to_attr="first_editions")
    counted = Work.objects.annotate(editions_count=Count("editions"))
    return counted.prefetch_related(editions).filter(pk=work_id).first()


def _resembles(column: str, text: str, *, contains: Q | None = None) -> Q:
    """A filter that the trigram index of `column` can answer. A text of less than three letters has no trigram."""
    alike = Q(**{f"{column}__trigram_word_similar": text})
    return alike if len(text) < 3 else alike | (contains or Q(**{f"{column}__contains": text}))
