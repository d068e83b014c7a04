"""A client of a sandbox, with its key."""

import httpx2

from alexandria.development.sandbox import Sandbox

THREE_ISBNS = {"isbns": ["9780441013593", "9780451524935", "9780441013594"]}
"""A batch of three ISBNs; the sandbox knows two of them."""


def connect(sandbox: Sandbox) -> httpx2.Client:
    return httpx2.Client(base_url=sandbox.url, headers={"Authorization": sandbox.key}, timeout=30)
