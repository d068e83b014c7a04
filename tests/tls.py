"""A private CA, and a TLS proxy with its certificate in front of any server of this machine."""

import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from urllib.parse import urlsplit

import pytest
import trustme


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What SSL_CERT_FILE names."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path


@contextmanager
def over_https(url: str, ca: trustme.CA, name: str = "localhost") -> Iterator[str]:
    """The https address of a proxy to the server at `url`, with a certificate for `name`."""
    target = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)

    class Proxy(BaseRequestHandler):
        def handle(self) -> None:
            with (
                suppress(OSError),  # the client does not accept the certificate, or is gone
                context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection((target.hostname, target.port)) as server,
            ):
                exchange(client, server)

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Proxy) as proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"https://localhost:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()
            thread.join()


def exchange(client: ssl.SSLSocket, server: socket.socket) -> None:
    """Passes on bytes in both directions, until one side ends."""
    other: dict[socket.socket, socket.socket] = {client: server, server: client}
    while True:
        for source in [client] if client.pending() else select.select(list(other), [], [])[0]:
            if not (data := source.recv(65_536)):
                return
            other[source].sendall(data)
