"""A stand-in for ISBNdb v2: a real HTTP server, in plain Python, for development, the demo and the tests.

Contract: ISBNdb's public OpenAPI file and the section "ISBNdb, as it is" of DESIGN.md. One request is one call,
however many ISBNs it asks for. Nothing here knows the rest of Alexandria, and nothing of the rest knows that this is
not ISBNdb.
"""

from alexandria.development.sandbox.server import Sandbox

__all__ = ["Sandbox"]
