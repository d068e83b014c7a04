"""The server under the sandbox: a thread for each connection."""

import socket
import socketserver
import sys
import threading
from contextlib import suppress
from http.server import ThreadingHTTPServer
from typing import Any


class ThreadedServer(ThreadingHTTPServer):
    """Accepts bursts of connections, makes no DNS lookup, and leaves no thread behind when it closes."""

    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self._open: dict[threading.Thread, socket.socket] = {}
        super().__init__(address, handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._open[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self._open[threading.current_thread()]

    def server_close(self) -> None:
        """Closes every connection and waits for the threads, so that no socket stays open."""
        super().server_close()
        for thread, connection in list(self._open.items()):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=5)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
