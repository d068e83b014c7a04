"""Only trusted proxies are believed what they say about their client: its address, and whether it used HTTPS."""

from io import StringIO
from ipaddress import ip_address, ip_network

import pytest
from django.http import HttpRequest
from django.test import Client, RequestFactory

from alexandria.common.proxies import client_address

NGINX, BALANCER = "127.0.0.1", "10.0.0.7"


@pytest.fixture(autouse=True)
def trusted(settings) -> None:
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]


def request_from(peer: str, forwarded: str | None) -> HttpRequest:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # made up by the client itself
        (NGINX, None, NGINX),
        (NGINX, "203.0.113.9", "203.0.113.9"),
        (NGINX, "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # a proxy that adds to what the client has made up
        (NGINX, "127.0.0.1, 203.0.113.9", "203.0.113.9"),
        (NGINX, f"198.51.100.1,203.0.113.9,{BALANCER}", "203.0.113.9"),
        (NGINX, f"10.9.9.9, {BALANCER}", "10.9.9.9"),  # all of them are trusted: the first is the client
        (NGINX, "unknown", NGINX),
        (NGINX, "", NGINX),
        (NGINX, f"203.0.113.9, unknown, {BALANCER}", BALANCER),
        ("::ffff:127.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2a00::7", "2a00::7"),
        ("2a00::7", "198.51.100.1", "2a00::7"),
    ],
)
def test_the_client_is_the_right_most_address_that_is_no_trusted_proxy(
    peer: str, forwarded: str | None, client: str
) -> None:
    assert client_address(request_from(peer, forwarded)) == ip_address(client)


def test_a_unix_socket_has_no_address_and_is_not_trusted() -> None:
    assert client_address(request_from("", "203.0.113.9")) is None


def test_without_trusted_proxies_only_the_connection_counts(settings) -> None:
    settings.TRUSTED_PROXIES = []
    assert client_address(request_from(NGINX, "203.0.113.9")) == ip_address(NGINX)


@pytest.mark.parametrize(
    ("peer", "protocol", "is_https"),
    [
        (NGINX, "https", True),
        (NGINX, "http", False),
        (NGINX, "https, http", False),  # the proxy has added what it saw to what the client has made up
        (NGINX, "http, https", True),
        (NGINX, "", False),
        ("203.0.113.9", "https", False),
    ],
)
def test_https_is_believed_from_a_trusted_proxy_alone(
    client: Client, settings, peer: str, protocol: str, is_https: bool
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    answer = client.get("/api/docs", headers={"X-Forwarded-Proto": protocol}, REMOTE_ADDR=peer)
    assert answer["Location"] == ("/api/docs/" if is_https else "https://testserver/api/docs")


def test_the_log_has_the_address_of_the_client_and_not_what_it_makes_up(client: Client, printed: StringIO) -> None:
    forwarded = {"X-Forwarded-For": "198.51.100.1", "Forwarded": "for=198.51.100.1", "X-Real-IP": "198.51.100.1"}
    client.get("/nope", headers=forwarded, REMOTE_ADDR="203.0.113.9")
    client.get("/nope", headers={"X-Forwarded-For": "203.0.113.10"}, REMOTE_ADDR=NGINX)
    client.get("/nope", headers={"Host": "evil.example"}, REMOTE_ADDR="203.0.113.11")
    for number in (9, 10, 11):
        assert f"ip=203.0.113.{number}" in printed.getvalue()
    assert "198.51.100.1" not in printed.getvalue()
