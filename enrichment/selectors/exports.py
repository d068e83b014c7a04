"""What a file of books, works or authors has: everything that is stored, in batches."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, QuerySet, Subquery

from alexandria.common.exports import in_batches
from enrichment.models import Author, Edition, Work
from enrichment.selectors.catalogue import with_editions

ISBNS_BATCH = 20_000
"""ISBNs that one query finds: a search can take long, so that it runs seldom."""
BOOKS_BATCH = 500
"""Books that one query reads: a book can have long texts."""

WORK_COLUMNS = ("id", "title", "author", "editions", "isbns")
AUTHOR_COLUMNS = ("id", "name", "editions")


def exported_books(books: QuerySet[Edition]) -> Iterator[Edition]:
    """The books by ISBN, with their works, authors and long texts, but without ISBNdb's own JSON."""
    keys = books.select_related(None).prefetch_related(None).only("isbn13")
    isbns = (edition.pk for edition in in_batches(keys, keys=["isbn13"], batch=ISBNS_BATCH))
    complete = Edition.objects.defer("raw").select_related("work").prefetch_related("author_links__author")
    while batch := list(islice(isbns, BOOKS_BATCH)):
        yield from complete.filter(pk__any_of=batch).order_by("isbn13")


def work_rows(works: QuerySet[Work]) -> Iterator[tuple[Any, ...]]:
    """WORK_COLUMNS for each work. The author is the first one; `isbns` are those of its editions."""
    author = Author.objects.filter(name_key=OuterRef("author_key")).values("name")
    isbns = Edition.objects.filter(work=OuterRef("pk")).order_by("isbn13").values("isbn13")
    complete: QuerySet[Any] = works.annotate(author=Subquery(author), isbns=ArraySubquery(isbns))
    for work in in_batches(complete, keys=["id"]):
        yield (work.pk, work.title, work.author or "", len(work.isbns), work.isbns)


def author_rows(authors: QuerySet[Author]) -> Iterator[tuple[Any, ...]]:
    """AUTHOR_COLUMNS for each author."""
    counted: QuerySet[Any] = with_editions(authors)
    for author in in_batches(counted, keys=["id"]):
        yield (author.pk, author.name, author.editions_count)
