"""API keys of a running stack."""

import re

from alexandria.development.stack import Stack


def make_key(stack: Stack, name: str, *options: str) -> str:
    """A new API key, by the command of the docs."""
    found = re.search(r"^\S+\.\S+$", stack.manage("create_api_key", name, *options), re.MULTILINE)
    assert found
    return found[0]
