"""Webhooks are signed, and go only to public addresses, to the one that was checked."""

import base64
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from alexandria.alerts import webhooks
from alexandria.alerts.exceptions import NotSent
from alexandria.alerts.models import Webhook, new_seed
from alexandria.alerts.webhooks import secret_of, send
from alexandria.common.addresses import AddressRefused, check_url, is_public
from tests.alexandria.alerts.receiver import Receiver, receiving
from tests.tls import ca, ca_file

__all__ = ["ca", "ca_file"]

PAYLOAD = {"type": "alert.test", "data": {"service": "Bücherei"}}


def hook(url: str) -> Webhook:
    return Webhook(name="chat", url=url)


def resolves_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Every name resolves to these addresses, one list for each look-up. Returns the names that were looked up."""
    asked: list[str] = []
    real, left = socket.getaddrinfo, list(answers)

    def look_up(host: Any, port: int, *args: Any, **options: Any) -> Any:
        if host.replace(".", "").isdigit() or ":" in host:
            return real(host, port, *args, **options)
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def test_the_documented_function_verifies_a_request(receiver: Receiver, verify: Any) -> None:
    webhook = hook(receiver.url)
    assert send(webhook, message_id="one", payload=PAYLOAD) == 200
    [got] = receiver.received
    assert got.headers["webhook-id"] == "one"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("Alexandria/")
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.path == "/hooks/a-secret-path"
    secret = secret_of(webhook)
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert verify(secret, got.headers, got.body)
    assert not verify(secret, got.headers, got.body + b" ")
    assert not verify(secret, got.headers | {"webhook-id": "two"}, got.body)
    assert not verify(secret_of(hook(receiver.url)), got.headers, got.body)
    old = str(int(time.time()) - 301)
    resigned = webhooks.signed_headers(webhook, message_id="one", timestamp=int(old), body=got.body)
    assert not verify(secret, got.headers | resigned, got.body)


def test_the_secret_is_not_in_the_row_and_changes_with_the_secret_key(settings) -> None:
    webhook = hook("https://books.example")
    before = secret_of(webhook)
    assert before == secret_of(webhook)
    assert before.removeprefix("whsec_") not in str(vars(webhook))
    settings.SECRET_KEY = "another" * 10
    assert secret_of(webhook) != before
    webhook.seed = new_seed()
    assert secret_of(webhook) != before


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(receiver: Receiver, status: int) -> None:
    receiver.answers, receiver.headers = [status], {"location": receiver.url}
    with pytest.raises(NotSent, match="Redirects are not followed") as failed:
        send(hook(receiver.url), message_id="one", payload=PAYLOAD)
    assert (failed.value.status, len(receiver.received)) == (status, 1)


def test_the_beginning_of_an_error_answer_is_kept(receiver: Receiver) -> None:
    receiver.answers, receiver.body = [500], b"No such\nhook" + b"!" * 100_000
    receiver.seconds = 0.001
    with pytest.raises(NotSent, match=r"answered with status 500: No such hook!+$") as failed:
        send(hook(receiver.url), message_id="one", payload=PAYLOAD)
    assert (failed.value.status, len(str(failed.value)) < 300) == (500, True)
    assert receiver.sent < 100_000


@pytest.mark.slow
def test_a_slow_answer_ends_in_time(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MAX_SECONDS", 0.5)
    receiver.seconds, receiver.body = 0.2, b"." * 512 * 100
    receiver.headers = {"content-length": str(512 * 100)}
    receiver.answers = [200]
    monkeypatch.setattr(webhooks, "MAX_ANSWER_BYTES", 10**9)
    with pytest.raises(NotSent, match="No answer within"):
        send(hook(receiver.url), message_id="one", payload=PAYLOAD)


def test_a_closed_port_is_reported_as_a_connection_error(receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(NotSent, match="ConnectError"):
        send(hook(f"http://127.0.0.1:{port}/"), message_id="one", payload=PAYLOAD)


def test_proxies_of_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert send(hook(receiver.url), message_id="one", payload=PAYLOAD) == 200


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",  # noqa: S104
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "192.88.99.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "3fff::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:100.64.0.1",
        "::ffff:8.8.8.8",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "2001::1",
        "100::1",
        "5f00::1",
        "books.example",
        "",
        "8.8.8.8.8",
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_a_public_address_is_accepted(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example/", "begin with https://"),
        ("ftp://hooks.example/", "begin with https://"),
        ("file:///etc/passwd", "begin with https://"),
        ("hooks.example/alerts", "begin with https://"),
        ("//hooks.example/alerts", "begin with https://"),
        ("https:///alerts", "host"),
        ("https://me:hunter2@hooks.example/", "must not contain user:password@"),
        ("https://me@hooks.example/", "must not contain user:password@"),
        ("https://hooks.example/#part", "must not contain #"),
        ("https://hooks.example:0/", "The port must be from 1 to 65535"),
        ("https://hooks.example:-1/", "The port must be from 1 to 65535"),
        ("https://hooks.example:many/", "not an address"),
        ("https://hooks.example:65536/", "The port must be from 1 to 65535"),
        ("https://127.0.0.1/", "not a public address"),
        ("https://127.1/", "not a public address"),
        ("https://2130706433/", "not a public address"),
        ("https://0x7f000001/", "not a public address"),
        ("https://0/", "not a public address"),
        ("https://[::1]/", "not a public address"),
        ("https://[::ffff:169.254.169.254]/", "not a public address"),
        ("https://[64:ff9b::7f00:1]/", "not a public address"),
        ("https://169.254.169.254/latest/meta-data/", "not a public address"),
        ("https://localhost/", "not a public address"),
        ("https://localhost./", "address"),
    ],
)
def test_an_address_that_is_not_allowed_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(AddressRefused, match=why) as refused:
        check_url(url)
    assert "hunter2" not in str(refused.value)


def test_one_address_that_is_not_public_is_enough_to_refuse_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, ["93.184.216.34", "10.0.0.7"])
    with pytest.raises(AddressRefused, match=r"hooks\.example is not a public address"):
        check_url("https://hooks.example/")
    resolves_to(monkeypatch, ["93.184.216.34", "1.1.1.1"])
    assert check_url("https://hooks.example/")[1] == ["93.184.216.34", "1.1.1.1"]


def test_a_slow_look_up_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    served = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: served.wait(30) or [])
    with pytest.raises(AddressRefused, match="could not be looked up"):
        check_url("https://hooks.example/", seconds=0.05)
    served.set()


def test_a_host_that_changes_its_address_after_the_check_is_not_followed(
    receiver: Receiver, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ALERT_WEBHOOKS_TO_PRIVATE = False
    asked = resolves_to(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    connected: list[str] = []

    def connect(address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(NotSent, match="ConnectError"):
        send(hook(f"https://rebinding.example:{receiver.port}/"), message_id="one", payload=PAYLOAD)
    assert (asked, connected, receiver.received) == (["rebinding.example"], ["93.184.216.34"], [])


@pytest.fixture
def certificate(ca: trustme.CA, tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for hooks.example of a private CA, and its key."""
    pem, key = tmp_path / "pem", tmp_path / "key"
    issued = ca.issue_cert("hooks.example")
    issued.cert_chain_pems[0].write_to_path(str(pem))
    issued.private_key_pem.write_to_path(str(key))
    return pem, key


@pytest.fixture
def tls_receiver(certificate: tuple[Path, Path], ca_file: Path, settings) -> Iterator[Receiver]:
    """A receiver over TLS with a trusted certificate."""
    settings.ALERT_WEBHOOKS_TO_PRIVATE = True
    settings.SSL_CERT_FILE = str(ca_file)
    with receiving(certificate) as receiver:
        yield receiver


def test_the_certificate_must_be_for_the_name_of_the_host(
    tls_receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves_to(monkeypatch, ["127.0.0.1"])
    assert send(hook(f"https://hooks.example:{tls_receiver.port}/x"), message_id="one", payload=PAYLOAD) == 200
    assert tls_receiver.received[0].headers["host"] == f"hooks.example:{tls_receiver.port}"
    with pytest.raises(NotSent, match="certificate"):
        send(hook(f"https://others.example:{tls_receiver.port}/x"), message_id="two", payload=PAYLOAD)


def test_the_next_address_is_tried_when_one_refuses(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    assert send(hook(f"http://two.example:{receiver.port}/x"), message_id="one", payload=PAYLOAD) == 200
