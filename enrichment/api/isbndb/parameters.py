"""What can be asked: the parameters of ISBNdb's OpenAPI file, and the ISBNs of `POST /books`."""

import json
import re
from typing import Any, ClassVar

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from enrichment.gateway.listings import MAX_NAME_LENGTH, MAX_RESULTS, PAGE_SIZE
from enrichment.isbn.reading import read
from enrichment.serializers.fields import SearchableField
from quota.serializers import QuerySerializer

MAX_ISBNS = 1000
MAX_BODY = 256 * 1024
"""Bytes. Those ISBNs take a tenth of it. Parsing takes up to thirty times the memory of the body."""
DATE = re.compile(r"^\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?\Z", re.ASCII)
COLUMNS = ("title", "author", "date_published", "subjects")


def _date() -> serializers.RegexField:
    message = "It must be YYYY, YYYY-MM or YYYY-MM-DD."
    return serializers.RegexField(DATE, required=False, error_messages={"invalid": message})


def _word() -> SearchableField:
    return SearchableField(max_length=MAX_NAME_LENGTH, required=False)


class PageSerializer(QuerySerializer):
    """The parameters of every listing. What is not given is left to ISBNdb."""

    page = serializers.IntegerField(min_value=1, max_value=MAX_RESULTS, required=False)
    pageSize = serializers.IntegerField(min_value=1, max_value=PAGE_SIZE, required=False)  # noqa: N815 (ISBNdb's names)
    publishedFrom = _date()  # noqa: N815
    publishedTo = _date()  # noqa: N815


class NamedSerializer(PageSerializer):
    """`GET /author/{name}`, `/publisher/{name}` and `/subject/{name}`."""

    name = SearchableField(max_length=MAX_NAME_LENGTH)
    language = serializers.CharField(max_length=50, required=False)


class QueriedSerializer(PageSerializer):
    """`GET /books/{query}`."""

    query = SearchableField(max_length=MAX_NAME_LENGTH)
    language = serializers.CharField(max_length=50, required=False)
    year = serializers.IntegerField(min_value=0, max_value=9999, required=False)
    edition = serializers.IntegerField(min_value=0, max_value=9999, required=False)
    shouldMatchAll = serializers.BooleanField(required=False)  # noqa: N815
    column = serializers.ChoiceField(choices=COLUMNS, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "year" in attrs and attrs.keys() & {"publishedFrom", "publishedTo"}:
            raise ValidationError({"year": "It cannot be combined with publishedFrom or publishedTo."})
        return attrs


class SearchSerializer(PageSerializer):
    """`GET /search/books`."""

    WORDS: ClassVar = ("isbn", "isbn13", "author", "text", "subject", "publisher")

    isbn = SearchableField(max_length=20, required=False)
    isbn13 = SearchableField(max_length=20, required=False)
    author = _word()
    text = _word()
    subject = _word()
    publisher = _word()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.keys() & set(self.WORDS):
            raise ValidationError(f"One of {', '.join(self.WORDS)} is required.")
        return attrs


def asked_for(request: Request, serializer: type[PageSerializer], **in_path: str) -> dict[str, str]:
    """The checked parameters, those of the path too, as text for ISBNdb. Raises ValidationError.

    An empty one counts as not given. ISBNdb ignores parameters that it does not know; they are not passed on.
    """
    given = {name: value for name, value in request.query_params.items() if value}
    checked = serializer(data=given | in_path)
    checked.is_valid(raise_exception=True)
    return {name: _as_text(value) for name, value in checked.validated_data.items()}


def isbns_of(request: Request) -> tuple[int, list[str]]:
    """The number of values of `POST /books`, 1 to 1,000, and the different ISBN-13s in them. Raises ValidationError.

    The body is JSON (`{"isbns": [...]}`, or an object instead of the list) or a form (`isbns=…,…`, also repeated, as
    `isbns[]=…` or as `isbns[0]=…`). Programs send JSON without saying so, so the body itself decides.
    """
    body = request._request.body  # noqa: SLF001 (DRF would choose a parser by the content type)
    if len(body) > MAX_BODY:
        raise _wrong(f"The body has more than {MAX_BODY // 1024} kB.")
    found: Any = _of_json(body) if body.lstrip()[:1] in {b"{", b"["} else _of_form(body)
    if isinstance(found, dict):
        found = list(found.values())
    if not isinstance(found, list) or not found:
        raise _wrong('There is none. Send {"isbns": ["9780593135204"]} or isbns=9780593135204.')
    isbns = read(found).valid if len(found) <= MAX_ISBNS else []
    if (number := max(len(found), len(isbns))) > MAX_ISBNS:  # a value can have several ISBNs
        raise _wrong(f"There are {number:,}.")
    return len(found), isbns


def _wrong(why: str) -> ValidationError:
    return ValidationError({"isbns": f"Give a list of 1 to {MAX_ISBNS:,} ISBNs. {why}"})


def _of_json(body: bytes) -> Any:
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValidationError({"isbns": "The body is neither JSON nor a form."}) from error
    return sent.get("isbns") if isinstance(sent, dict) else None


def _of_form(body: bytes) -> list[str]:
    fields = [values for name, values in QueryDict(body).lists() if name.partition("[")[0] == "isbns"]
    return [isbn for values in fields for value in values for isbn in value.split(",") if isbn]


def _as_text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
