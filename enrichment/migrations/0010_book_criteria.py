"""Finds books by subject, language, binding and date, and follows their changes.

The table is big, so the indexes are made while others write.
"""

from datetime import date

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models.functions import Coalesce, Upper

import enrichment.models.books

CREATE_FOLDED = """
    CREATE OR REPLACE FUNCTION enrichment_folded(words text[]) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS 'SELECT upper(words::text)::text[]'"""
DROP_FOLDED = "DROP FUNCTION enrichment_folded(text[])"
DAY = Coalesce("date_published", date(1, 1, 1))


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("enrichment", "0009_failed_isbns_index")]
    operations = [
        migrations.RunSQL(CREATE_FOLDED, DROP_FOLDED),
        *(
            AddIndexConcurrently(model_name="edition", index=index)
            for index in (
                GinIndex(enrichment.models.books.Folded("subjects"), name="enrichment_edition_subjects"),
                models.Index(Upper("language"), "isbn13", name="enrichment_edition_language"),
                models.Index(Upper("binding"), "isbn13", name="enrichment_edition_binding"),
                models.Index(DAY, "isbn13", name="enrichment_edition_day"),
                models.Index("updated_at", "isbn13", name="enrichment_edition_updated"),
            )
        ),
    ]
