"""Servers whose certificate comes from a private CA, and what commands say about a server that is not set up right."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import trustme
from django.core.management import CommandError, call_command
from django.core.wsgi import get_wsgi_application

from alexandria.alerts import webhooks
from alexandria.alerts.exceptions import NotSent
from alexandria.alerts.models import Webhook
from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import EnrichmentStopped, IsbndbUnavailable
from enrichment.gateway.connection import close_connections
from enrichment.services.enrich import enrich_isbns
from quota.models import Consumer
from tests.alexandria.alerts.receiver import receiving
from tests.fixtures import a_minute_passes, known_isbns
from tests.harvest.server_double import KEY, ServerDouble, serving
from tests.tls import ca, ca_file, over_https

__all__ = ["ca", "ca_file"]


@contextmanager
def isbndb(ca: trustme.CA, name: str, settings) -> Iterator[Callable[[], object]]:
    with Sandbox(max_rps=None) as sandbox, over_https(sandbox.url, ca, name) as url:
        settings.ISBNDB_BASE_URL, settings.ISBNDB_API_KEY = url, sandbox.key
        close_connections()
        yield lambda: enrich(known_isbns(1))
    close_connections()


def enrich(isbns: list[str]) -> None:
    a_minute_passes()
    try:
        enrich_isbns(isbns, consumer="reader", refresh=True)
    except EnrichmentStopped as stopped:
        raise stopped.reason if stopped.result.api_calls == 1 else AssertionError("a retry") from None


@contextmanager
def webhook(ca: trustme.CA, name: str, settings) -> Iterator[Callable[[], object]]:
    settings.ALERT_WEBHOOKS_TO_PRIVATE = True
    with receiving() as receiver, over_https(receiver.url, ca, name) as url:
        yield lambda: webhooks.send(Webhook(url=url), message_id="one", payload={})


@contextmanager
def harvest(ca: trustme.CA, name: str, settings) -> Iterator[Callable[[], object]]:
    with serving(ServerDouble({"Anna": 3})) as double, over_https(double.url, ca, name) as url:
        options = ["--server", url, "--api-key", KEY, "--author", "Anna", "--dry-run"]
        yield lambda: call_command("bulk_author_harvest", *options, stdout=StringIO(), stderr=StringIO())


@pytest.mark.slow
@pytest.mark.parametrize("client", [isbndb, webhook, harvest])
def test_a_server_of_a_private_ca_is_accepted_by_ssl_cert_file_alone_and_only_under_its_name(
    client, ca: trustme.CA, ca_file: Path, settings, no_waits, consumer: Consumer
) -> None:
    refused = (IsbndbUnavailable, NotSent, CommandError, SystemExit)
    with client(ca, "localhost", settings) as ask:
        with pytest.raises(refused, match=r"certificate is not accepted: unable to get local issuer certificate"):
            ask()
        settings.SSL_CERT_FILE = str(ca_file)
        close_connections()
        ask()
    with client(ca, "books.example", settings) as ask, pytest.raises(refused, match="Hostname mismatch"):
        ask()


def smoke(capsys, server: str) -> str:
    """What the command prints about a server that does not pass the first check."""
    with pytest.raises(SystemExit, match="1"):
        call_command("smoke", "--server", server, "--api-key", "key", "--json")
    return capsys.readouterr().out


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def production(settings) -> Iterator[str]:
    """The address of a service that redirects to HTTPS."""
    settings.DEBUG, settings.SECURE_SSL_REDIRECT, settings.ALLOWED_HOSTS = False, True, ["localhost"]
    with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_smoke_names_the_setting_that_makes_the_server_refuse(
    production: str, ca: trustme.CA, ca_file: Path, settings, capsys
) -> None:
    assert "is answered only over HTTPS. Use --server https://" in smoke(capsys, production)
    with over_https(production, ca) as url:
        assert "certificate is not accepted: unable to get local issuer certificate" in smoke(capsys, url)
        settings.SSL_CERT_FILE = str(ca_file)
        assert "redirects to itself" in (said := smoke(capsys, url))
        assert "TRUSTED_PROXIES" in said
    assert "ALLOWED_HOSTS" in smoke(capsys, production.replace("localhost", "127.0.0.1"))
