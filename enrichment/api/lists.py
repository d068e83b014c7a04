"""Lists of ISBNs in a request: JSON, or a whole file as the body."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from drf_spectacular.types import OpenApiTypes
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.serializers import BooleanField
from rest_framework.views import APIView

from enrichment.isbn.files import FileUnreadable, FileValues, read_file
from enrichment.serializers.books import IsbnListSerializer


class _FileParser(BaseParser):
    """Reads the file that is the body into FileValues. Raises ParseError and RequestDataTooBig."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        data = stream.read(limit + 1)
        if len(data) > limit:
            raise RequestDataTooBig
        try:
            return read_file(data)
        except FileUnreadable as error:
            raise ParseError(str(error)) from error


class CsvParser(_FileParser):
    media_type = "text/csv"


class TsvParser(_FileParser):
    media_type = "text/tab-separated-values"


class TextParser(_FileParser):
    media_type = "text/plain"


class WorkbookParser(_FileParser):
    media_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


class AnyFileParser(_FileParser):
    media_type = "application/octet-stream"


FILE_PARSERS = [CsvParser, TsvParser, TextParser, WorkbookParser, AnyFileParser]
LIST_PARSERS: Sequence[type[BaseParser]] = [*APIView.parser_classes, *FILE_PARSERS]


def list_bodies(serializer: type[IsbnListSerializer]) -> dict[str, Any]:
    """The bodies of a request with a list, for the schema.

    It names one type for every kind of file: generators of clients do not know the others and leave out the endpoint.
    The schema says that the body may be left out, although the answer is then a 400: for a required body of two types,
    openapi-python-client writes code that does not run.
    """
    return {"application/json": serializer, AnyFileParser.media_type: OpenApiTypes.BINARY}


def read_list(request: Request, serializer: type[IsbnListSerializer], **context: Any) -> dict[str, Any]:
    """The validated body. Beside a file, the other fields are parameters of the address. Raises ValidationError."""
    body = request.data
    if isinstance(body, FileValues):
        body = {**_parameters(request, serializer), "isbns": body}
    wanted = serializer(data=body, context=context)
    wanted.is_valid(raise_exception=True)
    return dict(wanted.validated_data)


def _parameters(request: Request, serializer: type[IsbnListSerializer]) -> dict[str, Any]:
    fields = serializer().fields
    words = {"true": True, "false": False}
    return {
        name: words.get(value, value) if isinstance(fields.get(name), BooleanField) else value
        for name, value in request.query_params.dict().items()
    }
