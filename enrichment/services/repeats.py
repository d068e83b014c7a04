"""Which books of a listing have come: ISBNdb may send the same page, or the same book, under another number."""

from collections.abc import Iterable
from hashlib import blake2b

from msgspec.structs import replace

from enrichment.books.decoding import Answer


class Seen:
    """The books of one listing that have come.

    `pages`: digests of the pages that have come. They are short, so a walk saves them; a later run knows a page again
    by its digest, but not the single books.
    """

    def __init__(self, pages: Iterable[str] = ()) -> None:
        self.pages = set(pages)
        self._isbns: set[str] = set()

    def take(self, answer: Answer) -> Answer:
        """The part of a page that had not come before; its `items` are 0 when there is none. It has come now."""
        isbns = {book.isbn13 for book in answer.books} | {book.isbn or "" for book in answer.bad}
        if not isbns:
            return answer
        digest = blake2b("\n".join(sorted(isbns)).encode(), digest_size=6).hexdigest()
        before, self._isbns = self._isbns, self._isbns | isbns
        if digest in self.pages or isbns <= before:
            return replace(answer, books=[], bad=[], items=0)
        self.pages.add(digest)
        if before.isdisjoint(isbns):
            return answer
        books = [book for book in answer.books if book.isbn13 not in before]
        bad = [book for book in answer.bad if not book.isbn or book.isbn not in before]
        return replace(answer, books=books, bad=bad, items=len(books) + len(bad))
