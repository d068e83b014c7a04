"""The environment of a test run: it ignores the developer's `.env` and shell."""

import re

from alexandria.env import BASE_DIR


def documented() -> dict[str, str]:
    """Every variable with its documented default, also an empty one, because `.env` sets only missing variables."""
    text = (BASE_DIR / ".env.example").read_text()
    return dict(re.findall(r"^# ([A-Z_]+)=(.*)$", text, re.MULTILINE))
