"""ISBNdb's own interface, `/isbndb/…`, for programs that are made for ISBNdb. docs/isbndb-interface.md explains it."""
