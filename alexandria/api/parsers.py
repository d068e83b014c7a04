"""Parses request bodies."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

MAX_VALUES = 500_000
"""Of a body; commas in texts count, too. Each can take a hundred bytes of memory."""


class LimitedJSONParser(JSONParser):
    """JSON, also with NaN, which Python writes for an empty cell. The module `bodies` limits the length.

    Too many values, and deeper nesting than Python can parse, are a ParseError.
    """

    strict = False

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        body = stream.read()
        if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
            raise ParseError(f"JSON parse error - more than {MAX_VALUES:,} values")
        try:
            return super().parse(BytesIO(body), media_type, dict(parser_context or {}))
        except RecursionError as error:
            raise ParseError("JSON parse error - nested too deeply") from error
