"""Finding what is stored: editions, works, authors."""

from typing import Any

from django.db.models import Count, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Upper

from enrichment.books.fields import LONG_COLUMNS
from enrichment.books.match_keys import name_key, title_key
from enrichment.models import Author, Edition, EditionAuthor, Work

MAX_EDITIONS = 1000
"""Of a work, in one answer."""


def find_books(
    *, title: str = "", author: str = "", author_id: int | None = None, publisher: str = "", year: int | None = None
) -> QuerySet[Edition]:
    """The editions that fit everything given, in no order, with their work and authors, without their long texts.

    A text fits where it is part of the other, or where its words are like words there; case, accents, punctuation and
    articles make no difference in titles and names.
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
    """The ISBN-13s of editions whose title, or one of whose authors, fits as in `find_books`; for a subquery.

    As a union, so that each half is found by an index of its own.
    """
    of_works = Edition.objects.filter(work__in=find_works(text).order_by())
    of_authors = EditionAuthor.objects.filter(author__in=find_authors(text).order_by())
    return of_works.order_by().values("pk").union(of_authors.order_by().values("edition_id"))


def find_works(title: str) -> QuerySet[Work]:
    """The works whose titles hold `title`, or words that are like it."""
    return Work.objects.filter(_resembles("title_key", title_key(title)))


def find_authors(name: str = "") -> QuerySet[Author]:
    """The authors whose names hold `name`, or words that are like it; all of them when it is empty."""
    return Author.objects.filter(_resembles("name_key", name_key(name))) if name else Author.objects.all()


def with_editions(authors: QuerySet[Author]) -> QuerySet[Author]:
    """The authors with the number of their editions as `editions_count`."""
    links = EditionAuthor.objects.filter(author=OuterRef("pk")).order_by().values("author")
    return authors.annotate(editions_count=Coalesce(Subquery(links.annotate(n=Count("*")).values("n")), 0))


def top_authors(*, limit: int) -> list[Author]:
    """The authors of the most editions, with `editions_count`; of equally many, those stored first come first."""
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
    """The work with `editions_count`, and in `first_editions` MAX_EDITIONS as `find_books` gives them, by ISBN."""
    editions = Prefetch("editions", find_books().order_by("pk")[:MAX_EDITIONS], to_attr="first_editions")
    counted = Work.objects.annotate(editions_count=Count("editions"))
    return counted.prefetch_related(editions).filter(pk=work_id).first()


def _resembles(column: str, text: str, *, contains: Q | None = None) -> Q:
    """What the trigram index of `column` finds. A text of fewer than three letters has no trigram to be part of."""
    alike = Q(**{f"{column}__trigram_word_similar": text})
    return alike if len(text) < 3 else alike | (contains or Q(**{f"{column}__contains": text}))
