"""Finds stored editions, works and authors."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.search import TrigramSimilarity, TrigramWordSimilarity
from django.db.models import Count, IntegerField, Max, OuterRef, Prefetch, Q, QuerySet, Subquery, TextField, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Coalesce, Upper

from enrichment.books.fields import LONG_COLUMNS
from enrichment.books.match_keys import name_key, title_key
from enrichment.models import Author, Edition, EditionAuthor, Work
from enrichment.models.books import DAY, Folded

MAX_EDITIONS = 1000
"""The largest number of editions of a work in one answer."""


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What a book must match: all that are given.

    A title, an author and a publisher match when the stored text contains it, or contains similar words. Titles and
    names match without regard to case, accents, punctuation and articles. A subject, a language and a binding match as
    a whole, without regard to case.
    """

    isbns: Collection[str] = ()
    """ISBN-13s; none: all."""
    title: str = ""
    author: str = ""
    author_id: int | None = None
    work_id: int | None = None
    publisher: str = ""
    subject: str = ""
    language: str = ""
    binding: str = ""
    year: int | None = None
    published_from: date | None = None
    published_to: date | None = None
    updated_since: datetime | None = None
    updated_before: datetime | None = None


def find_books(criteria: Criteria = Criteria(), *, fields: Collection[str] = ()) -> QuerySet[Edition]:
    """Finds the editions that match, unordered, with their works and authors.

    Their long texts are not loaded, except those in `fields`.
    """
    left_out = [name for name in LONG_COLUMNS if name not in fields]
    books = Edition.objects.defer(*left_out).select_related("work").prefetch_related("author_links__author")
    return _dated(_described(_named(books, criteria), criteria), criteria)


def by_date(books: QuerySet[Edition]) -> QuerySet[Edition]:
    """The books with `day`, their date of publication: the first day of all when they have none."""
    return books.annotate(day=DAY)


def by_relevance(books: QuerySet[Edition], criteria: Criteria) -> QuerySet[Edition]:
    """The books with `distance`, a whole number: the smaller, the better do title, author and publisher match.

    Words that are alike count most. Among books with the same ones, the shorter text is the better match.
    """
    likeness: list[Combinable] = []
    if criteria.title:
        likeness.append(_likeness("work__title_key", title_key(criteria.title)))
    if criteria.author:
        links = EditionAuthor.objects.filter(edition=OuterRef("pk")).order_by().values("edition")
        likeness.append(Subquery(links.values(likeness=Max(_likeness("author__name_key", name_key(criteria.author))))))
    if criteria.publisher:
        likeness.append(_likeness("publisher", criteria.publisher))
    return books.annotate(distance=Cast(-1000 * sum(likeness, start=Value(0.0)), IntegerField()))


def _likeness(column: str, text: str) -> Combinable:
    """From 0 to 1.1, the greatest for an equal text."""
    return TrigramWordSimilarity(text, column) + TrigramSimilarity(column, text) / 10.0


def _named(books: QuerySet[Edition], criteria: Criteria) -> QuerySet[Edition]:
    if criteria.isbns:
        books = books.filter(pk__any_of=criteria.isbns)
    if criteria.title:
        books = books.filter(work__in=find_works(criteria.title).order_by())
    if criteria.work_id is not None:
        books = books.filter(work=criteria.work_id)
    if criteria.author:
        links = EditionAuthor.objects.filter(author__in=find_authors(criteria.author).order_by())
        books = books.filter(pk__in=links.order_by().values("edition_id"))
    if criteria.author_id is not None:
        links = EditionAuthor.objects.filter(author=criteria.author_id)
        books = books.filter(pk__in=links.order_by().values("edition_id"))
    return books


def _described(books: QuerySet[Edition], criteria: Criteria) -> QuerySet[Edition]:
    if criteria.publisher:
        contains = Q(publisher__icontains=criteria.publisher)
        books = books.alias(publisher_upper=Upper("publisher")).filter(
            _resembles("publisher_upper", criteria.publisher, contains=contains)
        )
    if criteria.subject:
        wanted = Folded(Value([criteria.subject], output_field=ArrayField(TextField())))
        books = books.alias(folded=Folded("subjects")).filter(folded__contains=wanted)
    if criteria.language:
        books = books.alias(language_upper=Upper("language")).filter(language_upper=Upper(Value(criteria.language)))
    if criteria.binding:
        books = books.alias(binding_upper=Upper("binding")).filter(binding_upper=Upper(Value(criteria.binding)))
    return books


def _dated(books: QuerySet[Edition], criteria: Criteria) -> QuerySet[Edition]:
    # By `DAY`, so that one index finds the books and gives them in the order of their dates.
    first, last = criteria.published_from, criteria.published_to
    if criteria.year is not None:
        first = max(first or date.min, date(criteria.year, 1, 1))
        last = min(last or date.max, date(criteria.year, 12, 31))
    if first is not None or last is not None:
        books = books.alias(published_day=DAY).filter(
            date_published__isnull=False, published_day__gte=first or date.min, published_day__lte=last or date.max
        )
    if criteria.updated_since is not None:
        books = books.filter(updated_at__gte=criteria.updated_since)
    if criteria.updated_before is not None:
        books = books.filter(updated_at__lt=criteria.updated_before)
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
