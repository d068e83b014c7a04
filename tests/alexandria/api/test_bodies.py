"""A request is refused by its head, before a byte of its body is read, decoded or written to a disk."""

import codecs
import json
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.signals import request_started
from django.db import close_old_connections
from django.test import Client, RequestFactory
from django.utils import timezone
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from alexandria.api.parsers import MAX_VALUES, LimitedJSONParser
from alexandria.wsgi import application
from enrichment.admin import lists
from quota.models import Consumer, ConsumerKey

pytestmark = pytest.mark.django_db

LOG_IN = "/admin/login/"
FORM = "application/x-www-form-urlencoded"
OTHER_CHARSETS = [
    "text/plain; charset=spy",
    "text/plain;CHARSET = SPY",
    'text/plain; charset="spy"',
    'text/plain; charset="utf-8;spy"',
    "text/plain; charset=utf-8; charset=spy",
    "text/plain; charset*=spy''a",
    "text/plain; charset*0=s; charset*1=py",
    "text/plain; title*=spy''a",
    "text/plain; a/b*=spy''a",
    "text/plain; \"a;b*\"*=spy''a",
    "text/plain; charset\x0b=spy",
    f"{FORM}; charset=spy",
]


class Unread:
    """The body of a request that nobody may read."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("The body was read.")

    readline = read


@pytest.fixture(autouse=True)
def one_connection() -> Iterator[None]:
    """The connection of the test stays open between two requests, as with Django's own client."""
    request_started.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)


@pytest.fixture
def codecs_of_spy() -> Iterator[list[str]]:
    """Every search for a codec whose name has `spy` in it, also one in C. Python asks here, because it has none."""
    names: list[str] = []

    def search(name: str) -> None:
        if "spy" in name:
            names.append(name)

    codecs.register(search)
    yield names
    codecs.unregister(search)


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("admin"))
    return client


def answer_to_head(path: str, **environ: Any) -> tuple[int, str]:
    """The status and the content type of the answer to a POST whose body cannot be read."""
    found: dict[str, Any] = {}

    def start(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        found.update(headers, status=int(status[:3]))

    head = RequestFactory().post(path, secure=True).META | {"wsgi.input": Unread(), "CONTENT_LENGTH": "300000"}
    list(application(head | environ, start))
    return found["status"], found["Content-Type"]


@pytest.mark.parametrize("content_type", OTHER_CHARSETS)
def test_no_codec_but_utf8_and_ascii_is_looked_up(content_type: str, codecs_of_spy: list[str]) -> None:
    assert answer_to_head(LOG_IN, CONTENT_TYPE=content_type)[0] == 415
    assert answer_to_head("/api/nothing", HTTP_ACCEPT=f"text/html, {content_type}")[0] == 401
    assert codecs_of_spy == []


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/api/enrich/batch-direct", "application/problem+json"),
        ("/api/nothing", "application/problem+json"),
        ("/isbndb/books", "application/json"),
        ("/admin/", "text/plain; charset=utf-8"),
        ("/nowhere", "text/plain; charset=utf-8"),
    ],
)
def test_another_charset_is_a_415_in_the_form_of_the_path(path: str, form: str) -> None:
    assert answer_to_head(path, CONTENT_TYPE="text/plain; charset=punycode") == (415, form)


@pytest.mark.parametrize(
    "part",
    [
        "Content-Disposition: form-data; name=isbns\r\nContent-Type: text/plain; charset=spy",
        "Content-Disposition: form-data; name=file; filename*=spy''a",
        "Content-Disposition: form-data; name*0*=spy''isb; name*1*=ns",
        "X: y\r\nContent-Disposition: form-data; name=isbns; x*=spy''a",
    ],
)
def test_a_part_of_a_form_cannot_name_another_charset(part: str, staff: Client, codecs_of_spy: list[str]) -> None:
    form = f"--limit\r\n{part}\r\n\r\nx\r\n--limit--\r\n".encode()
    response = staff.post("/admin/enrichment/job/check-isbns/", form, "multipart/form-data; boundary=limit")
    assert response.status_code == 415
    assert codecs_of_spy == []


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"utf-8"', "us-ascii"])
def test_utf8_and_ascii_are_read_as_utf8(charset: str) -> None:
    User.objects.create_superuser("Zoë", password="a long one")
    body = b"username=Zo%C3%AB&password=a+long+one&_charset_=punycode&next=/admin/"
    environ = {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body)), "HTTP_ACCEPT_CHARSET": "punycode"}
    cookie = {
        "HTTP_COOKIE": f"csrftoken={'a' * 32}",
        "HTTP_X_CSRFTOKEN": "a" * 32,
        "HTTP_REFERER": "https://testserver",
    }
    assert answer_to_head(LOG_IN, CONTENT_TYPE=f"{FORM}; charset={charset}", **environ, **cookie)[0] == 302


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/enrich/batch-direct", "application/json"),
        ("/api/enrich/batch-direct", "text/csv"),
        ("/api/nothing", "application/json"),
        ("/isbndb/books", "application/json"),
        (LOG_IN, "multipart/form-data; boundary=limit"),
        (LOG_IN, FORM),
        ("/admin/enrichment/job/check-isbns/", "multipart/form-data; boundary=limit"),
        ("/nowhere", "text/plain"),
    ],
)
def test_a_body_without_a_key_or_a_session_is_refused_unread(path: str, kind: str) -> None:
    assert answer_to_head(path, CONTENT_TYPE=kind)[0] == 401


@pytest.mark.parametrize("key", ["wrong", "expired", "revoked", "of a consumer that is switched off"])
def test_a_body_with_a_key_that_is_not_accepted_is_refused_unread(key: str) -> None:
    consumer = Consumer.objects.create(slug="reader", active=key != "of a consumer that is switched off")
    yesterday = timezone.now() - timedelta(days=1)
    _, text = ConsumerKey.objects.create_key(
        name="a", consumer=consumer, revoked=key == "revoked", expiry_date=yesterday if key == "expired" else None
    )
    head = {
        "HTTP_AUTHORIZATION": f"Api-Key {'wrong.key' if key == 'wrong' else text}",
        "CONTENT_TYPE": "application/json",
    }
    paths = ["enrich/batch-direct", "enrich/queue", "authors/bulk-harvest", "books/enrich-new-releases"]
    for path in ["/isbndb/books", *(f"/api/{path}" for path in paths)]:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert answer_to_head(path, REQUEST_METHOD=method, **head)[0] in {401, 403}, (method, path)


@pytest.mark.parametrize("path", ["/api/enrich/batch-direct", "/isbndb/books", "/admin/", LOG_IN])
def test_a_body_that_is_too_long_is_refused_unread(path: str) -> None:
    too_long = str(settings.FILE_UPLOAD_MAX_MEMORY_SIZE + 1)
    kind = "multipart/form-data; boundary=limit"
    assert answer_to_head(path, CONTENT_LENGTH=too_long, CONTENT_TYPE=kind)[0] == 413


def test_a_body_of_unknown_length_is_refused_unread() -> None:
    chunked = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
    assert answer_to_head("/api/enrich/batch-direct", **chunked) == (411, "application/problem+json")
    for length in ("+5", "1_000", "-1"):  # int() takes them
        assert answer_to_head("/api/enrich/batch-direct", CONTENT_LENGTH=length)[0] == 411


def test_no_upload_is_written_to_a_disk(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    file = SimpleUploadedFile("list.txt", b"9780441172719\n" + b" " * 5_000_000)
    assert staff.post("/admin/enrichment/job/check-isbns/", {"file": file}).status_code == 302


@pytest.mark.parametrize(
    ("form", "kind", "status"),
    [
        ("a=1&" * 2000, FORM, 400),
        ("a=" + "1" * 5_000_000, FORM, 413),
        ("no boundary", "multipart/form-data", 400),
        (
            "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n" * 2000 + "--x--",
            "multipart/form-data; boundary=x",
            400,
        ),
        (
            "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n" + "1" * 5_000_000,
            "multipart/form-data; boundary=x",
            413,
        ),
    ],
)
def test_a_form_that_cannot_be_read_is_the_clients_error(form: str, kind: str, status: int, staff: Client) -> None:
    assert staff.post("/admin/enrichment/job/check-isbns/", form, kind).status_code == status


def test_a_form_that_does_not_come_as_a_whole_is_a_408(staff: Client) -> None:
    class Slow(Unread):
        def read(self, *_: Any) -> bytes:
            raise ConnectionResetError

    head: dict[str, Any] = {"CONTENT_TYPE": FORM, "CONTENT_LENGTH": "300000", "wsgi.input": Slow()}
    assert staff.post("/admin/enrichment/job/check-isbns/", **head).status_code == 408


@pytest.mark.parametrize("piece", [b"1,", b"[],", b"{},", b'"a",', b"["])
def test_json_with_too_many_values_is_refused_before_it_is_parsed(piece: bytes, monkeypatch) -> None:
    monkeypatch.setattr(JSONParser, "parse", None)
    with pytest.raises(ParseError, match="more than 500,000 values"):
        LimitedJSONParser().parse(BytesIO(piece * (MAX_VALUES + 1)))


def test_a_user_who_may_not_do_what_the_form_is_for_gets_no_file_read(client: Client, monkeypatch) -> None:
    monkeypatch.setattr(lists, "read_file", None)
    client.force_login(User.objects.create_user("viewer", is_staff=True))
    file = SimpleUploadedFile("list.txt", b"9780441172719\n")
    assert client.post("/admin/enrichment/job/check-isbns/", {"file": file}).status_code == 403


def test_json_of_a_whole_list_is_parsed() -> None:
    isbns = ["978-0-441-17271-9"] * 100_000
    assert LimitedJSONParser().parse(BytesIO(json.dumps({"isbns": isbns}).encode())) == {"isbns": isbns}
