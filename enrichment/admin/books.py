"""Books, works, authors, misses and the feed. They are read-only, because the next refresh would overwrite a change."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.paginator import InfinitePaginator

from alexandria.common.admin import ReadOnlyAdmin
from alexandria.common.exports import Row
from alexandria.common.list_exports import RowExportMixin
from alexandria.common.reasons import close_dialog, confirm_dialog
from alexandria.common.searching import MIN_CHARACTERS, is_searchable
from alexandria.common.text import counted
from alexandria.common.widgets import link
from enrichment.admin.exports import BookExportMixin
from enrichment.admin.lists import cost_context, job_page, run_and_log
from enrichment.books.misses import ask_again_at
from enrichment.books.provenance import trace
from enrichment.exceptions import JobError
from enrichment.isbn.parsing import InvalidIsbn, parse, to_isbn10
from enrichment.jobs.lists import keep_isbns
from enrichment.models import Author, AuthorMiss, Edition, FeedFollowing, Miss, Work
from enrichment.models.books import UnknownToIsbndb
from enrichment.selectors.books import get_edition
from enrichment.selectors.catalogue import find_authors, find_books, find_works, isbns_of, with_editions
from enrichment.selectors.exports import AUTHOR_COLUMNS, WORK_COLUMNS, author_rows, work_rows
from enrichment.serializers.books import MAX_JOB_ISBNS
from quota.exceptions import QuotaError
from quota.selectors.prices import cost_of_isbns

MAX_SIBLINGS = 20
MIN_PREFIX_LENGTH = 4


class IsbnSearch(ReadOnlyAdmin):
    """Searches by an ISBN in any form, or by the first digits of an ISBN-13."""

    paginator = InfinitePaginator
    isbn_field = "isbn13"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        digits = search_term.replace("-", "")
        try:
            return queryset.filter(**{self.isbn_field: parse(search_term)}), False
        except InvalidIsbn:
            if digits.isdecimal() and digits.startswith("97") and len(digits) >= MIN_PREFIX_LENGTH:
                # Several ISBNs of a work can begin with them.
                return queryset.filter(**{f"{self.isbn_field}__startswith": digits}), "__" in self.isbn_field
            text = searched_text(request, search_term)
            return (queryset.none() if text is None else self.search_text(queryset, text)), False

    def search_text(self, queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
        """The rows that match a text that is not an ISBN. All rows if the text is empty."""
        return queryset.none() if text else queryset


def searched_text(request: HttpRequest, search_term: str) -> str | None:
    """The text to search for; None, with a message to the user, if it has too few letters and digits."""
    text = search_term.strip()
    if not text or is_searchable(text):
        return text
    messages.warning(request, f"Search for at least {MIN_CHARACTERS} letters or digits.")
    return None


class RefreshForm(BaseDialogForm):
    form_before_template = "enrichment/admin/cost.html"

    def get_before_template_context(self, request: HttpRequest, object_id: int | str | None = None) -> dict[str, Any]:
        return cost_context(cost_of_isbns(1), requests=1)


@admin.register(Edition)
class EditionAdmin(BookExportMixin, IsbnSearch):
    list_display = ["isbn13", "title", "author_names", "publisher", "published", "synced_at"]
    list_filter = ["synced_at", ("date_published", RangeDateFilter)]
    list_filter_submit = True
    search_fields = ["title"]
    search_help_text = "Search by an ISBN (in any form), a title or an author."
    actions = ["refresh"]
    actions_detail = ["refresh_one"]
    change_form_outer_before_template = "enrichment/admin/edition.html"
    change_form_outer_after_template = "enrichment/admin/edition_more.html"
    fieldsets = [("Times", {"fields": ["synced_at", "named_at", "updated_at", "created_at"]})]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Edition]:
        return find_books().order_by("isbn13")

    def search_text(self, queryset: QuerySet[Edition], text: str) -> QuerySet[Edition]:
        return queryset.filter(pk__in=isbns_of(text)) if text else queryset

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        edition = get_edition(object_id)
        shown = _edition_context(edition) if edition else {}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    @admin.display(description="authors")
    def author_names(self, edition: Edition) -> str:
        return "; ".join(link.author.name for link in edition.author_links.all())

    def has_refresh_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """A refresh needs both permissions: it spends calls, and it runs as a job."""
        return bool(request.user.has_perms(["enrichment.refresh_edition", "enrichment.add_job"]))

    @admin.action(description="Refresh from ISBNdb…", permissions=["refresh"])
    def refresh(self, request: HttpRequest, editions: QuerySet[Edition]) -> HttpResponse | None:
        """Opens the page that shows the cost."""
        isbns = list(editions.order_by("isbn13").values_list("isbn13", flat=True)[: MAX_JOB_ISBNS + 1])
        if len(isbns) > MAX_JOB_ISBNS:
            messages.error(request, f"A job can have at most {MAX_JOB_ISBNS:,} ISBNs. Choose fewer books.")
            return None
        kept = keep_isbns(isbns, made_by=cast(User, request.user), refresh=True, purpose="refresh")
        return HttpResponseRedirect(reverse("admin:isbn_list", args=[kept.pk]))

    @action(
        description="Refresh from ISBNdb",
        url_path="refresh",
        permissions=["refresh"],
        icon="refresh",
        dialog=confirm_dialog(
            "Request this book from ISBNdb again?",
            "This starts a job, even if the stored book is fresh.",
            "Refresh",
            RefreshForm,
        ),
    )
    def refresh_one(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        edition = get_object_or_404(Edition, pk=object_id)
        kept = keep_isbns([edition.pk], made_by=cast(User, request.user), refresh=True, purpose="refresh")
        try:
            job = run_and_log(request, kept)
        except (QuotaError, JobError) as error:
            messages.error(request, f"The job was not started. {error}")
            return close_dialog(request, reverse("admin:enrichment_edition_change", args=[object_id]))
        return close_dialog(request, job_page(job))


def _edition_context(edition: Edition) -> dict[str, Any]:
    """The context of `edition.html` and `edition_more.html`."""
    others = find_books().filter(work=edition.work_id).exclude(pk=edition.pk)
    return {
        "edition": edition,
        "isbn10": to_isbn10(edition.isbn13),
        "fields": trace(edition),
        "siblings": list(others.order_by("pk")[:MAX_SIBLINGS]),
        "raw": json.dumps(edition.raw, ensure_ascii=False, indent=2),
    }


def _editions_link(count: int | None, **lookup: object) -> SafeString:
    [(name, value)] = lookup.items()
    address = reverse("admin:enrichment_edition_changelist")
    return link(f"{address}?{name}={value}", counted(count or 0, "edition"))


@admin.register(Work)
class WorkAdmin(RowExportMixin, IsbnSearch):
    list_display = ["title", "author_key", "editions_link"]
    search_fields = ["title"]
    search_help_text = "Search by a title, or by an ISBN (in any form)."
    fields = ["title", "title_key", "author_key", "editions_link"]
    isbn_field = "editions__isbn13"
    actions_list = ("export_csv", "export_ndjson")
    export_name = "works"
    export_columns = WORK_COLUMNS

    def get_queryset(self, request: HttpRequest) -> QuerySet[Work]:
        """Adds the number of editions. It is counted only for the rows of one page."""
        editions = Edition.objects.filter(work=OuterRef("pk")).order_by().values("work")
        queryset: QuerySet[Work] = super().get_queryset(request)
        return queryset.annotate(editions_count=Subquery(editions.annotate(n=Count("*")).values("n")))

    def search_text(self, queryset: QuerySet[Work], text: str) -> QuerySet[Work]:
        return queryset.filter(pk__in=find_works(text).order_by().values("pk")) if text else queryset

    def export_rows(self, request: HttpRequest, queryset: QuerySet[Work]) -> Iterator[Row]:
        return work_rows(queryset)

    @admin.display(description="editions")
    def editions_link(self, work: Any) -> SafeString:
        return _editions_link(work.editions_count, work__id__exact=work.pk)


@admin.register(Author)
class AuthorAdmin(RowExportMixin, ReadOnlyAdmin):
    list_display = ["name", "editions_link"]
    paginator = InfinitePaginator
    search_fields = ["name"]
    search_help_text = "Search by a name. Similar names are found, too."
    fields = ["name", "name_key", "editions_link"]
    actions_list = ("export_csv", "export_ndjson")
    export_name = "authors"
    export_columns = AUTHOR_COLUMNS

    def get_queryset(self, request: HttpRequest) -> QuerySet[Author]:
        return with_editions(super().get_queryset(request))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Author], search_term: str
    ) -> tuple[QuerySet[Author], bool]:
        text = searched_text(request, search_term)
        if text is None:
            return queryset.none(), False
        found = find_authors(text).order_by().values("pk")
        return (queryset.filter(pk__in=found) if text else queryset), False

    def export_rows(self, request: HttpRequest, queryset: QuerySet[Author]) -> Iterator[Row]:
        return author_rows(queryset)

    @admin.display(description="editions")
    def editions_link(self, author: Any) -> SafeString:
        return _editions_link(author.editions_count, authors__id__exact=author.pk)


class MissBase(ReadOnlyAdmin):
    """Shows from when a request asks ISBNdb again."""

    paginator = InfinitePaginator
    list_filter = ["asked_at", "step"]

    @admin.display(description="asked again from")
    def ask_again_at(self, miss: UnknownToIsbndb) -> datetime:
        return ask_again_at(miss)


@admin.register(Miss)
class MissAdmin(MissBase, IsbnSearch):
    list_display = ["isbn13", "asked_at", "step", "ask_again_at", "named_at"]
    fields = ["isbn13", "asked_at", "step", "ask_again_at", "named_at"]
    search_fields = ["isbn13"]
    search_help_text = "Search by an ISBN, in any form."


@admin.register(AuthorMiss)
class AuthorMissAdmin(MissBase):
    list_display = ["name", "asked_at", "step", "ask_again_at"]
    fields = ["name", "asked_at", "step", "ask_again_at"]
    search_fields = ["name__startswith"]
    search_help_text = "Search by the beginning of a name, as ISBNdb was asked for it."


@admin.register(FeedFollowing)
class FeedFollowingAdmin(ReadOnlyAdmin):
    list_display = ["began_at", "read_up_to", "ended_at", "why_ended", "ended_by"]
    fields = ["began_at", "reading_since", "read_up_to", "ended_at", "why_ended", "ended_by"]
    list_filter = ["began_at"]
