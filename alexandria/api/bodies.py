"""Refuses a request by its head, before a byte of its body is read: by its charset, its length, and who sends it.

Only UTF-8 and ASCII are decoded. Other codecs of Python can take a minute for a body of 300 kB (punycode).
"""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http import HttpRequest, HttpResponseBase, UnreadablePostError
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from rest_framework.exceptions import UnsupportedMediaType

from alexandria.api.problems import DETAILS, IN_API, refusal
from alexandria.common.turns import body_length
from enrichment.api.isbndb.errors import too_long

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

MAX_STRANGERS_FORM = 16 * 1024
"""Bytes of a form without a session: a name, a password, and where to go next."""
FORM, FILES = "application/x-www-form-urlencoded", "multipart/form-data"

_CHARSETS = {f"{quote}{name}{quote}" for name in ("utf-8", "utf8", "us-ascii", "ascii") for quote in ("", '"')}
_REFUSED = "alexandria.refused_charset"
CHARSET_REFUSED = "A request can only be UTF-8 or ASCII. Send it without another charset, also in its parts."
NO_LENGTH = "Send the length of the body in the header Content-Length."
NO_NUL = "A text with a NUL character (%00) cannot be stored or searched for."
_PART_HEAD = 1024
"""Bytes of the head of a part that Django reads."""


def only_utf8(application: Wsgi) -> Wsgi:
    """Takes other charsets out of a request before Django looks for their codecs. `bodies` then refuses it."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        _take_out_charsets(environ)
        return application(environ, start_response)

    return guarded


def bodies(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """The last middleware: it knows the session, and the views and the check of CSRF have not read the body yet."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        _take_out_charsets(request.META)
        if request.META.get(_REFUSED):
            return refusal(request, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_charset", CHARSET_REFUSED)
        return _refused(request) or get_response(request)

    return middleware


class CheckedFiles(MemoryFileUploadHandler):
    """Parses a form with files in memory, after a look at the charsets of its parts. Nothing is written to a disk.

    Raises UnsupportedMediaType. `bodies` limits the length before.
    """

    def handle_raw_input(  # type: ignore[override]  # the boundary is bytes
        self,
        input_data: Any,
        META: dict[str, Any],  # noqa: N803
        content_length: int,
        boundary: bytes,
        encoding: str | None = None,
    ) -> Any:
        body = input_data.read(content_length)
        if names_charset_in_parts(body, boundary):
            raise UnsupportedMediaType(FILES, CHARSET_REFUSED)
        return MultiPartParser(META, BytesIO(body), [MemoryFileUploadHandler(self.request)], encoding).parse()


def names_charset(header: str) -> bool:
    """Whether a header has a charset that is neither UTF-8 nor ASCII, or a parameter that can name one (RFC 2231).

    Quotation marks do not matter: a semicolon in them only makes this stricter than the parsers are.
    """
    for parameter in header.split(";"):
        name, equals, value = parameter.lower().partition("=")
        if equals and ("*" in name or (_is_charset(parameter) and value.strip() not in _CHARSETS)):
            return True
    return False


def names_charset_in_parts(body: bytes, boundary: bytes) -> bool:
    """The same of the heads of the parts of a form."""
    separator = b"--" + boundary
    at = body.find(separator)
    while at >= 0:
        start = at + len(separator)
        end = body.find(b"\r\n\r\n", start, start + _PART_HEAD)
        lines = body[start:end].decode("utf-8", "replace").split("\r\n") if end >= 0 else []
        if any(map(names_charset, lines)):
            return True
        at = body.find(separator, start)
    return False


def _take_out_charsets(environ: dict[str, Any]) -> None:
    content_type = environ.get("CONTENT_TYPE", "")
    if names_charset(content_type):
        environ["CONTENT_TYPE"], environ[_REFUSED] = "application/octet-stream", True
    elif content_type:  # Django knows UTF-8 by no other name, and ASCII is a part of it
        environ["CONTENT_TYPE"] = ";".join(part for part in content_type.split(";") if not _is_charset(part))
    if any(map(names_charset, environ.get("HTTP_ACCEPT", "").split(","))):
        environ["HTTP_ACCEPT"] = "*/*"


def _is_charset(parameter: str) -> bool:
    return parameter.partition("=")[0].strip().lower() == "charset"


def _refused(request: HttpRequest) -> HttpResponseBase | None:
    """The answer to a request whose body is not read; None: the body can be read."""
    length = body_length(request.META)
    if "Transfer-Encoding" in request.headers or length is None:
        return refusal(request, HTTPStatus.LENGTH_REQUIRED, "length_required", NO_LENGTH)
    if not length:
        return None
    in_api = request.path.startswith(IN_API)  # views ask for the key before they read
    has_files = request.content_type == FILES and not in_api
    limit = settings.FILE_UPLOAD_MAX_MEMORY_SIZE if has_files else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if length > limit:
        return _too_large(request, limit)
    if in_api:
        return None
    if (request.content_type != FORM or length > MAX_STRANGERS_FORM) and not request.user.is_authenticated:
        return refusal(request, HTTPStatus.UNAUTHORIZED, "not_authenticated", "Log in, then send this again.")
    return _unreadable(request)


def _unreadable(request: HttpRequest) -> HttpResponseBase | None:
    """Reads a form, and returns the answer to one that cannot be read. Later the check of CSRF would, with a 500."""
    try:
        if any("\0" in value for _, values in request.POST.lists() for value in values):
            return refusal(request, HTTPStatus.BAD_REQUEST, "parse_error", NO_NUL)
    except UnsupportedMediaType as error:
        return refusal(request, error.status_code, "unsupported_charset", str(error.detail))
    except UnreadablePostError:
        return refusal(request, HTTPStatus.REQUEST_TIMEOUT, "body_incomplete", DETAILS["body_incomplete"])
    except RequestDataTooBig:
        return _too_large(request, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    except (TooManyFieldsSent, TooManyFilesSent, MultiPartParserError) as error:
        return refusal(request, HTTPStatus.BAD_REQUEST, "parse_error", str(error))
    return None


def _too_large(request: HttpRequest, limit: int) -> HttpResponseBase:
    return refusal(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", too_long(limit))
