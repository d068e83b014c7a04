"""Parses request bodies."""

from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class LimitedJSONParser(JSONParser):
    """JSON, also with NaN, which Python writes for an empty cell. Deeper nesting than Python can parse is a ParseError.

    Django limits the length.
    """

    strict = False

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        try:
            return super().parse(stream, media_type, dict(parser_context or {}))
        except RecursionError as error:
            raise ParseError("JSON parse error - nested too deeply") from error
