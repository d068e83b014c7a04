"""A replacement for ISBNdb v2, for development, the demo and the tests: a real HTTP server in plain Python.

It follows ISBNdb's public OpenAPI file and what was observed of ISBNdb itself (docs/isbndb.md). It counts calls as
ISBNdb's contract says, or as another plan would (`plan.py`). The sandbox imports nothing of the product, and the
product does not know that this server is not ISBNdb.
"""

from alexandria.development.sandbox.server import Sandbox

__all__ = ["Sandbox"]
