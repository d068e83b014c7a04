"""Harvests the bibliographies of a list of authors, on our database (local.py) or through a server (remote.py).

The harvest fetches an author page by page and records each page before it fetches the next one. So however it ends, at
most the current page is fetched again.
"""
