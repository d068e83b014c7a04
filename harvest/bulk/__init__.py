"""Harvesting the bibliographies of a list of authors, on our database (local.py) or through a server (remote.py).

Authors are asked for page by page, and what came of a page is on record before the next is asked for: whatever ends
the harvest, nothing but the page under way is asked for again.
"""
