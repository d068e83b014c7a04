"""The data from ISBNdb: works, their editions and authors, and what ISBNdb does not know.

Only enrichment/books/storage.py writes works, editions, authors and misses, in batches. Keys have the collation "C":
PostgreSQL compares them byte by byte, which is fast and gives Python's order.
"""

from datetime import date

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import Func, Q, TextField
from django.db.models.functions import Coalesce, Upper

ISBN13_FORMAT = r"^97[89][0-9]{10}$"
TRIGRAMS = "gin_trgm_ops"  # of pg_trgm: finds parts of words and similar words
NAMED = Q(named_at__isnull=False)
NAMED_AT = "When ISBNdb's feed named it as changed. Empty: ISBNdb has been asked since, or the feed did not name it."
DAY = Coalesce("date_published", date.min)
"""The date of publication in an order of books: one without a date counts as the oldest."""


class Folded(Func):
    """The texts of an array without regard to case."""

    function = "enrichment_folded"
    output_field = ArrayField(TextField())


def known_part(day: date | None, precision: str) -> str:
    """The known part of a date: "2023-10-05", "2023-10", "2023" or ""."""
    return "" if day is None else day.isoformat()[: {"day": 10, "month": 7, "year": 4}[precision]]


class Author(models.Model):
    """An author: one row for all spellings of a name (see match_keys.name_key)."""

    name = models.TextField(help_text="The first spelling that ISBNdb sent.")
    name_key = models.TextField(editable=False, db_collation="C", help_text="The name, normalised.")

    class Meta:
        ordering = ["name_key"]
        constraints = [models.UniqueConstraint(fields=["name_key"], name="enrichment_author_name_key_once")]
        indexes = [GinIndex(fields=["name_key"], opclasses=[TRIGRAMS], name="enrichment_author_name_trigram")]

    def __str__(self) -> str:
        return self.name


class Work(models.Model):
    """A work: all editions with one normalised title and first author (see match_keys.py).

    The subtitle and the number of a volume are parts of the title. An edition without a title or without an author has
    a work of its own: its ISBN is the key that is missing.
    """

    title = models.TextField(blank=True, help_text="The title of the edition that was stored first.")
    title_key = models.TextField(editable=False, db_collation="C", help_text="The title, normalised.")
    author_key = models.TextField(editable=False, db_collation="C", help_text="The first author's name, normalised.")

    class Meta:
        ordering = ["title_key", "author_key"]
        constraints = [
            models.UniqueConstraint(fields=["title_key", "author_key"], name="enrichment_work_title_and_author_once")
        ]
        indexes = [GinIndex(fields=["title_key"], opclasses=[TRIGRAMS], name="enrichment_work_title_trigram")]

    def __str__(self) -> str:
        return self.title or f"untitled work {self.pk}"


class Edition(models.Model):
    """One book as ISBNdb describes it. A text that ISBNdb does not send is empty."""

    class DatePrecision(models.TextChoices):
        DAY = "day", "day"
        MONTH = "month", "month"
        YEAR = "year", "year"

    isbn13 = models.CharField("ISBN-13", max_length=13, primary_key=True, db_collation="C")
    isbn10 = models.CharField("ISBN-10", max_length=10, blank=True, help_text="Empty for ISBNs that begin with 979.")
    work = models.ForeignKey(Work, on_delete=models.PROTECT, related_name="editions")
    authors = models.ManyToManyField(Author, through="EditionAuthor", related_name="editions")
    title = models.TextField(blank=True)
    title_long = models.TextField("long title", blank=True)
    publisher = models.TextField(blank=True)
    language = models.TextField(blank=True, help_text="A code or a name, as ISBNdb sent it.")
    binding = models.TextField(blank=True)
    edition = models.TextField(blank=True, help_text="For example “3rd” or “Revised”.")
    pages = models.PositiveIntegerField(null=True, blank=True)
    date_published = models.DateField(null=True, blank=True, help_text="An unknown month or day is 1.")
    date_precision = models.CharField(
        max_length=5, blank=True, choices=DatePrecision.choices, help_text="The known part of the date."
    )
    dewey_decimal = ArrayField(models.TextField(), default=list, blank=True)
    subjects = ArrayField(models.TextField(), default=list, blank=True)
    msrp = models.DecimalField(
        "MSRP",
        max_digits=8,
        decimal_places=2,
        null=True,
        blank=True,
        help_text="The publisher's price, usually in USD.",
    )
    image = models.TextField(blank=True, help_text="The address of the cover image, at most 500 pixels high.")
    dimensions = models.TextField(blank=True)
    synopsis = models.TextField(blank=True, help_text="Can contain HTML from ISBNdb: escape it wherever you show it.")
    overview = models.TextField(blank=True, help_text="Can contain HTML.")
    excerpt = models.TextField(blank=True, help_text="Can contain HTML.")
    other_isbns = ArrayField(
        models.CharField(max_length=13), default=list, blank=True, help_text="The ISBN-13s of other forms of the book."
    )
    raw = models.JSONField(help_text="ISBNdb's own JSON. Its `image_original` link works for two hours.")
    content_hash = models.UUIDField(
        editable=False, help_text="A 128-bit hash that shows whether the content has changed."
    )
    synced_at = models.DateTimeField(help_text="When ISBNdb last sent the book.")
    created_at = models.DateTimeField(help_text="When the edition was first stored.")
    updated_at = models.DateTimeField(help_text="When the stored content last changed.")
    named_at = models.DateTimeField(null=True, blank=True, help_text=NAMED_AT)

    class Meta:
        ordering = ["isbn13"]
        permissions = [("refresh_edition", "Can refresh edition")]
        constraints = [
            models.CheckConstraint(condition=Q(isbn13__regex=ISBN13_FORMAT), name="enrichment_edition_isbn13_format"),
            models.CheckConstraint(condition=Q(pages=None) | Q(pages__gt=0), name="enrichment_edition_pages_positive"),
            models.CheckConstraint(condition=Q(msrp=None) | Q(msrp__gt=0), name="enrichment_edition_msrp_positive"),
            models.CheckConstraint(
                condition=Q(date_published=None, date_precision="")
                | Q(date_published__isnull=False, date_precision__in=["day", "month", "year"]),
                name="enrichment_edition_date_has_precision",
            ),
        ]
        indexes = [
            models.Index(fields=["synced_at"], name="enrichment_edition_synced_at"),
            models.Index(fields=["named_at"], condition=NAMED, name="enrichment_edition_named_at"),
            models.Index(fields=["date_published"], name="enrichment_edition_published"),
            GinIndex(OpClass(Upper("publisher"), TRIGRAMS), name="enrichment_edition_publisher"),
            GinIndex(Folded("subjects"), name="enrichment_edition_subjects"),
            # The ISBN is in these for pages in their order, and in the order of ISBNs.
            models.Index(Upper("language"), "isbn13", name="enrichment_edition_language"),
            models.Index(Upper("binding"), "isbn13", name="enrichment_edition_binding"),
            models.Index(DAY, "isbn13", name="enrichment_edition_day"),
            models.Index("updated_at", "isbn13", name="enrichment_edition_updated"),
        ]

    def __str__(self) -> str:
        return f"{self.title or 'untitled'} ({self.isbn13})"

    @property
    def published(self) -> str:
        """The known part of the date: "2023-10-05", "2023-10", "2023" or ""."""
        return known_part(self.date_published, self.date_precision)


class EditionAuthor(models.Model):
    """An author of an edition, and the position among its authors."""

    pk = models.CompositePrimaryKey("edition_id", "position")
    edition = models.ForeignKey(Edition, on_delete=models.CASCADE, related_name="author_links", db_index=False)
    position = models.PositiveSmallIntegerField(help_text="1 is the first author.")
    author = models.ForeignKey(Author, on_delete=models.PROTECT, related_name="edition_links", db_index=False)

    class Meta:
        ordering = ["edition_id", "position"]
        constraints = [
            # In this order of columns, the index also finds the editions of an author.
            models.UniqueConstraint(fields=["author", "edition"], name="enrichment_editionauthor_author_once"),
        ]

    def __str__(self) -> str:
        return f"{self.edition_id} #{self.position}"


class UnknownToIsbndb(models.Model):
    """What ISBNdb did not know when it was last asked. enrichment/books/misses.py says when it is asked again."""

    class Step(models.IntegerChoices):
        FIRST = 1, "first: a day"
        SECOND = 2, "second: a week"
        LAST = 3, "last: MISS_REMEMBER_DAYS"

    asked_at = models.DateTimeField(help_text="When ISBNdb was last asked.")
    step = models.PositiveSmallIntegerField(
        choices=Step, default=Step.FIRST, db_default=Step.FIRST, help_text="How long ISBNdb is not asked again."
    )

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(condition=Q(step__in=[1, 2, 3]), name="%(app_label)s_%(class)s_step_known")
        ]


class AuthorMiss(UnknownToIsbndb):
    """An author that ISBNdb did not know. Another spelling of the name is another author to ISBNdb."""

    name = models.TextField(primary_key=True, db_collation="C", help_text="The name as ISBNdb was asked for it.")

    class Meta(UnknownToIsbndb.Meta):
        ordering = ["name"]
        verbose_name_plural = "author misses"

    def __str__(self) -> str:
        return self.name


class Miss(UnknownToIsbndb):
    """An ISBN that ISBNdb did not know."""

    isbn13 = models.CharField("ISBN-13", max_length=13, primary_key=True, db_collation="C")
    named_at = models.DateTimeField(null=True, blank=True, help_text=NAMED_AT)

    class Meta(UnknownToIsbndb.Meta):
        ordering = ["isbn13"]
        verbose_name_plural = "misses"
        constraints = [
            *UnknownToIsbndb.Meta.constraints,
            models.CheckConstraint(condition=Q(isbn13__regex=ISBN13_FORMAT), name="enrichment_miss_isbn13_format"),
        ]
        indexes = [models.Index(fields=["named_at"], condition=NAMED, name="enrichment_miss_named_at")]

    def __str__(self) -> str:
        return self.isbn13
