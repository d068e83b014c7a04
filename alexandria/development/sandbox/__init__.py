"""A replacement for ISBNdb v2, for development, the demo and the tests: a real HTTP server in plain Python.

It follows ISBNdb's public OpenAPI file and what was observed of ISBNdb itself (docs/isbndb.md). One request is one
call, however many ISBNs it has. The sandbox imports nothing of the product, and the product does not know that this
server is not ISBNdb.
"""

from alexandria.development.sandbox.server import Sandbox

__all__ = ["Sandbox"]
