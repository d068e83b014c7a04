"""Pages on which operators look books up. Nothing can be changed here: the next sync would undo it."""

from typing import Any

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from enrichment.isbn import InvalidIsbn, parse
from enrichment.models import Author, Edition, EditionAuthor, Miss, Work
from quota.admin.base import ReadOnlyAdmin


class IsbnSearch(ReadOnlyAdmin):
    """An ISBN in any form finds its row; any other text is looked for as usual."""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        try:
            return queryset.filter(isbn13=parse(search_term)), False
        except InvalidIsbn:
            return super().get_search_results(request, queryset, search_term)


def _link_to_editions(**lookup: object) -> SafeString:
    [(name, value)] = lookup.items()
    return format_html('<a href="{}?{}={}">show</a>', reverse("admin:enrichment_edition_changelist"), name, value)


@admin.register(Edition)
class EditionAdmin(IsbnSearch):
    list_display = ["isbn13", "title", "author_names", "publisher", "published", "synced_at"]
    list_filter = ["synced_at"]
    search_fields = ["title"]
    search_help_text = "An ISBN in any form, or part of the title."
    fieldsets = [
        (None, {"fields": ["isbn13", "isbn10", "title", "title_long", "author_names", "work"]}),
        ("Publication", {"fields": ["publisher", "published", "edition", "binding", "language", "pages", "msrp"]}),
        ("Subject", {"fields": ["subjects", "dewey_decimal", "synopsis", "overview", "excerpt"]}),
        ("Form", {"fields": ["dimensions", "image", "other_isbns"]}),
        ("Record", {"fields": ["synced_at", "created_at", "updated_at", "raw"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Edition]:
        links = EditionAuthor.objects.select_related("author")
        queryset: QuerySet[Edition] = super().get_queryset(request)
        return queryset.prefetch_related(Prefetch("author_links", queryset=links))

    @admin.display(description="authors")
    def author_names(self, edition: Edition) -> str:
        return "; ".join(link.author.name for link in edition.author_links.all())


@admin.register(Work)
class WorkAdmin(ReadOnlyAdmin):
    list_display = ["title", "author_key", "editions_link"]
    search_fields = ["title"]
    fields = ["title", "title_key", "author_key", "editions_link"]

    @admin.display(description="editions")
    def editions_link(self, work: Work) -> SafeString:
        return _link_to_editions(work__id__exact=work.pk)


@admin.register(Author)
class AuthorAdmin(ReadOnlyAdmin):
    list_display = ["name", "editions_link"]
    search_fields = ["name"]
    fields = ["name", "name_key", "editions_link"]

    @admin.display(description="editions")
    def editions_link(self, author: Author) -> SafeString:
        return _link_to_editions(authors__id__exact=author.pk)


@admin.register(Miss)
class MissAdmin(IsbnSearch):
    list_display = ["isbn13", "asked_at"]
    search_fields = ["isbn13"]
    search_help_text = "An ISBN in any form."
