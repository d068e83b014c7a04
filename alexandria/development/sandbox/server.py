"""The HTTP server, and the class `Sandbox` with which tests and the command start, control and stop it."""

import hmac
import threading
from dataclasses import asdict, replace
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, Self

from alexandria.development.sandbox import api, control
from alexandria.development.sandbox.api import Answer, Call
from alexandria.development.sandbox.connections import ThreadedServer
from alexandria.development.sandbox.faults import Fault, Faults
from alexandria.development.sandbox.meter import Meter, Request, is_key
from alexandria.development.sandbox.plan import Plan

MAX_BODY_BYTES = 16 * 1024 * 1024
DRIP_PIECES = 20


class Sandbox:
    """ISBNdb on this machine, as a context manager. It listens from entry to exit, in its own threads.

    `key` is the expected `Authorization` header. `daily_limit`, `max_rps` and `state_file`: see `Meter`. `max_batch` is
    the maximum number of ISBNs in one POST /books. `port` 0 takes a free port. `terms` are fields of `Plan`. Raises
    ValueError if a term is invalid, ValueError or OSError if the state file cannot be used, and OSError on entry if the
    address cannot be used.
    """

    def __init__(
        self,
        *,
        key: str = "sandbox-key",
        daily_limit: int = 15_000,
        max_rps: int | None = 3,
        max_batch: int = 1_000,
        state_file: Path | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        **terms: Any,
    ) -> None:
        self.key = key
        self.max_batch = max_batch
        self.host = host
        self.meter = Meter(daily_limit, max_rps, state_file, Plan(**control.plan(terms)))
        self.faults = Faults()
        self.stopping = threading.Event()
        self._wanted_port = port
        self._server: ThreadedServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.stopping.clear()
        self._server = ThreadedServer((self.host, self._wanted_port), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="sandbox", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is None or self._thread is None:
            return
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = None

    @property
    def port(self) -> int:
        if self._server is None:
            raise RuntimeError("The sandbox is not running.")
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    @property
    def spent(self) -> int:
        """Calls counted today."""
        return self.meter.spent()

    @property
    def most_in_a_second(self) -> int:
        """The most requests with the key in any one second, since the start or a new `max_rps`."""
        return self.meter.most_in_a_second

    @property
    def requests(self) -> list[dict[str, Any]]:
        """All requests outside `/_sandbox/` in the order of arrival, as the fields of `Request`."""
        return self.meter.requests()

    def state(self) -> dict[str, Any]:
        """The answer of `GET /_sandbox/state`."""
        return {
            "day": self.meter.day(),
            "spent": self.spent,
            "limit": self.meter.daily_limit,
            "max_rps": self.meter.max_rps,
            "most_in_a_second": self.meter.most_in_a_second,
            "plan": asdict(self.meter.plan),
            "offset_seconds": self.meter.offset_seconds,
            "faults": self.faults.list(),
            "requests": self.requests,
        }

    def add_fault(self, kind: str, **fields: Any) -> None:
        """Adds a fault after the others. `fields`: see `Fault`. Raises BadInput, which is a ValueError."""
        self.faults.add(control.fault({"kind": kind, **fields}))

    def clear_faults(self) -> None:
        self.faults.clear()

    def set_limits(
        self, *, daily_limit: int | None = None, max_rps: int | EllipsisType | None = ..., spent: int | None = None
    ) -> None:
        """Changes the limits that are given. `max_rps` None means no limit. `spent` is the number of calls today."""
        if daily_limit is not None:
            self.meter.daily_limit = daily_limit
        if max_rps is not ...:
            self.meter.set_max_rps(max_rps)
        if spent is not None:
            self.meter.set_spent(spent)

    def set_plan(self, **terms: Any) -> None:
        """Changes the terms that are given: fields of `Plan`. Raises BadInput, which is a ValueError."""
        self.meter.plan = replace(self.meter.plan, **control.plan(terms))

    def set_clock(self, *, offset_seconds: float) -> None:
        """Sets the sandbox's clock that many seconds ahead of the machine's clock (behind it if negative)."""
        self.meter.offset_seconds = offset_seconds


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, sandbox: Sandbox, *args: Any) -> None:
        self._sandbox = sandbox
        self._arrived = 0.0
        super().__init__(*args)

    def parse_request(self) -> bool:
        self._arrived = self._sandbox.meter.now()
        return super().parse_request()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the library's name)
        """Logs nothing: the meter records the requests."""

    def _handle(self) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith("/_sandbox/"):
            body = self._read_body()
            if body is not None:
                self._send(control.answer(self._sandbox, self.command, path, body))
            return
        authorization = self.headers.get("Authorization", "")
        has_key = hmac.compare_digest(authorization.encode(), self._sandbox.key.encode())
        request = Request(at=self._arrived, method=self.command, path=path, query=query, counted=has_key)
        meter, body = self._sandbox.meter, self._read_body()
        if body is not None:
            request.asked = api.batch_size(self.command, path, self.headers.get("Content-Type", ""), body)
        limit = meter.count(request, request.asked)
        refusal = self._refusal(has_key=has_key, limit=limit)
        seconds, fault = (0.0, None) if refusal or body is None else self._sandbox.faults.meet(path)
        if body is None or (fault and fault.kind == "drop") or self._sandbox.stopping.wait(seconds):
            self.close_connection = True
            return
        answer = refusal or self._answer(request, body, fault)
        if not meter.plan.charge_failed and (answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.status >= 500):
            meter.uncharge(request)
        if fault and fault.kind == "drop_before_answer":
            self.close_connection = True
            return
        request.status = answer.status
        headers = self._rate_headers(limit, fault) if has_key else {}
        self._send(Answer(answer.status, answer.body, {**headers, **answer.headers}), fault)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _handle  # noqa: N815 (the library's names)

    def _refusal(self, *, has_key: bool, limit: str) -> Answer | None:
        if not has_key:
            message = "The API key is missing or wrong."
            return Answer(401, {"message": "Unauthorized", "error": message, "error_message": message})
        return Answer(*self._sandbox.meter.plan.refusal(limit)) if limit else None

    def _rate_headers(self, limit: str, fault: Fault | None) -> dict[str, str]:
        meter = self._sandbox.meter
        used_up = fault is not None and fault.kind == "daily_limit"
        return meter.plan.headers(
            limit="daily" if used_up else limit,
            now=meter.now(),
            daily_limit=meter.daily_limit,
            left=0 if used_up else max(0, meter.daily_limit - meter.spent()),
            max_rps=meter.max_rps,
        )

    def _answer(self, request: Request, body: bytes, fault: Fault | None) -> Answer:
        """The answer of the endpoint, or of a fault that replaces it."""
        meter, kind = self._sandbox.meter, fault.kind if fault else ""
        if fault and kind in {"status", "redirect"}:
            status = fault.status or (503 if kind == "status" else 302)
            location = {"Location": f"/redirected{self.path}"} if kind == "redirect" else {}
            return Answer(status, _text(fault.body, {"message": self._phrase(status)}), location | fault.headers)
        miscount = fault.calls if fault and kind == "miscount" else 0
        if fault and kind == "daily_limit":
            if not is_key(request) or fault.path == request.path:
                return Answer(*meter.plan.refusal("daily"))
            miscount = max(0, meter.daily_limit - meter.reported())
        answer = api.answer(
            Call(
                request=request,
                content_type=self.headers.get("Content-Type", ""),
                body=body,
                meter=meter,
                host=self._sandbox.url,
                max_batch=self._sandbox.max_batch,
                miscount=miscount,
            )
        )
        if fault and kind == "garbage":
            return Answer(200, _text(fault.body, b"<html><body>Bad Gateway</body></html>"), fault.headers)
        return answer

    def _read_body(self) -> bytes | None:
        """The body. None if it cannot be read; the connection then closes."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self._send(Answer(411, {"message": f"A Content-Length of at most {MAX_BODY_BYTES} is required."}))
            return None
        try:
            body = self.rfile.read(int(length))
        except ConnectionError:
            return None
        return body if len(body) == int(length) else None

    def _send(self, answer: Answer, fault: Fault | None = None) -> None:
        """Sends head and body in one piece, unless a fault cuts or delays them."""
        content = b"" if answer.status in {204, 304} else answer.content()
        kind = fault.kind if fault else ""
        self.close_connection = self.close_connection or kind == "truncate"
        headers = {
            "Date": formatdate(usegmt=True),
            "Content-Type": "application/json",
            **{name.title(): text for name, text in answer.headers.items()},
            "Content-Length": str(len(content)),
            "Connection": "close" if self.close_connection else "keep-alive",
        }
        lines = [f"HTTP/1.1 {answer.status} {self._phrase(answer.status)}", *map(": ".join, headers.items()), "", ""]
        head = "\r\n".join(lines).encode("latin-1")
        if self.command == "HEAD":
            content = b""
        if kind == "truncate":
            content = content[: len(content) // 2]
        if not fault or kind != "drip":
            self.wfile.write(head + content)
            return
        self.wfile.write(head)
        size = len(content) // DRIP_PIECES + 1
        for start in range(0, len(content), size):
            if self._sandbox.stopping.wait(fault.seconds / DRIP_PIECES):
                return
            self.wfile.write(content[start : start + size])

    def _phrase(self, status: int) -> str:
        return self.responses.get(status, ("",))[0]


def _text(body: Any, default: Any) -> Any:
    """The body of a fault for `Answer`: text is sent unchanged, everything else as JSON."""
    if body is None:
        return default
    return body.encode() if isinstance(body, str) else body
