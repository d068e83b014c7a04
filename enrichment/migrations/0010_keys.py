"""Computes the keys of authors and works again, by the rules of match_keys.py that this version has.

Authors who now have one key become one. Editions move to the work of their new key: two volumes that shared a work get
one each, and works that only a note in brackets kept apart become one. Old code may run meanwhile: what it writes by
the old rules comes right with the next answer of ISBNdb, because the content hash covers the keys.
"""

from collections.abc import Iterator
from typing import Any

from django.db import migrations, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.utils import CursorWrapper
from django.db.migrations.state import StateApps

from enrichment.books.cleaning import text
from enrichment.books.match_keys import name_key, title_key

AT_ONCE = 2000
AUTHORS = "SELECT id, name, name_key FROM enrichment_author WHERE id > %s ORDER BY id LIMIT %s"
EDITIONS = """
    SELECT isbn13, edition.title, title_long, work_id, work.title_key, work.author_key,
        (SELECT name_key FROM enrichment_editionauthor AS link JOIN enrichment_author AS author ON author.id = author_id
         WHERE edition_id = isbn13 ORDER BY position LIMIT 1)
    FROM enrichment_edition AS edition JOIN enrichment_work AS work ON work.id = work_id
    WHERE isbn13 > %s ORDER BY isbn13 LIMIT %s"""

RENAME = "UPDATE enrichment_author SET name = %s, name_key = %s WHERE id = %s"
SAME = "SELECT id FROM enrichment_author WHERE name_key = %s AND id <> %s FOR UPDATE"
UNLINK_TWICE = """
    DELETE FROM enrichment_editionauthor AS link USING enrichment_editionauthor AS first
    WHERE link.author_id = ANY(%(both)s) AND first.author_id = ANY(%(both)s)
    AND first.edition_id = link.edition_id AND first.position < link.position"""
RELINK = "UPDATE enrichment_editionauthor SET author_id = %(kept)s WHERE author_id = %(gone)s"
DELETE_AUTHOR = "DELETE FROM enrichment_author WHERE id = %(gone)s"

INSERT_WORKS = """
    INSERT INTO enrichment_work (title_key, author_key, title)
    SELECT DISTINCT ON (title_key, author_key) title_key, author_key, title
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS moved (title_key, author_key, title)
    ORDER BY title_key, author_key
    ON CONFLICT (title_key, author_key) DO NOTHING"""
MOVE = """
    UPDATE enrichment_edition AS edition
    SET work_id = work.id, updated_at = now(), content_hash = gen_random_uuid()
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS moved (title_key, author_key, isbn13)
    JOIN enrichment_work AS work ON work.title_key = moved.title_key AND work.author_key = moved.author_key
    WHERE edition.isbn13 = moved.isbn13"""
DELETE_WORKS = """
    DELETE FROM enrichment_work WHERE id = ANY(%s)
    AND NOT EXISTS (SELECT FROM enrichment_edition WHERE work_id = enrichment_work.id)"""


def compute_keys(_: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    with schema_editor.connection.cursor() as cursor:
        for rows in _chunks(cursor, AUTHORS, 0):
            with transaction.atomic():
                for author, name, key in rows:
                    _rekey_author(cursor, author, name, key)
        for rows in _chunks(cursor, EDITIONS, ""):
            with transaction.atomic():
                _move_editions(cursor, rows)


def _chunks(cursor: CursorWrapper, query: str, last: Any) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of the query, some at once. Their first column says where the next ones begin."""
    while rows := _fetched(cursor, query, [last, AT_ONCE]):
        yield rows
        last = rows[-1][0]


def _fetched(cursor: CursorWrapper, query: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    cursor.execute(query, parameters)
    return cursor.fetchall()


def _rekey_author(cursor: CursorWrapper, author: int, name: str, key: str) -> None:
    new_name = text(name) or name
    new_key = name_key(new_name)
    if (new_name, new_key) == (name, key):
        return
    if not (same := _fetched(cursor, SAME, [new_key, author])):
        cursor.execute(RENAME, [new_name, new_key, author])
        return
    kept = same[0][0]
    cursor.execute(UNLINK_TWICE, {"both": [kept, author]})
    cursor.execute(RELINK, {"kept": kept, "gone": author})
    cursor.execute(DELETE_AUTHOR, {"gone": author})


def _move_editions(cursor: CursorWrapper, rows: list[tuple[Any, ...]]) -> None:
    moved: list[tuple[str, str, str, str]] = []
    left: list[int] = []
    for isbn13, sent_title, title_long, work, old_title_key, old_author_key, first_author in rows:
        title = text(sent_title)
        keys = title_key(title, text(title_long)) if title else isbn13, first_author or isbn13
        if keys != (old_title_key, old_author_key):
            moved.append((*keys, isbn13, title))
            left.append(work)
    if moved:
        title_keys, author_keys, isbns, titles = map(list, zip(*moved, strict=True))
        cursor.execute(INSERT_WORKS, [title_keys, author_keys, titles])
        cursor.execute(MOVE, [title_keys, author_keys, isbns])
        cursor.execute(DELETE_WORKS, [left])


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("enrichment", "0009_failed_isbns_index")]
    operations = [migrations.RunPython(compute_keys, migrations.RunPython.noop)]
