"""The API of a server, for a bulk harvest: waits for a server that is out of reach, and explains other failures."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2

from alexandria.common.http import certificate_error, trusted_certificates
from harvest.bulk.harvests import EXIT_CANNOT, EXIT_QUOTA, CannotGoOn
from harvest.bulk.server import why_redirected

TIMEOUT = httpx2.Timeout(60, connect=10)  # seconds
PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds between tries while the server is out of reach. Every request of a harvest can be repeated."""
MAX_PAUSE_SECONDS = 60.0  # also when the server asks for more
_FINAL = {"quota_exhausted", "too_many_jobs", "too_many_items"}
"""Trying again soon does not help."""
_SWITCHED_OFF = {"consumer_inactive", "consumer_unknown", "harvest_off"}


class Answer(NamedTuple):
    """An answer of the server: 2xx, or a conflict (409) with its `code`."""

    status: int
    body: Any

    @property
    def code(self) -> str:
        return str(self.body.get("code", "")) if self.status == 409 else ""


class _OutOfReach(Exception):
    """`retry_after`: seconds, if the server said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Api:
    """The API at `base_url`, for the consumer of the key (see harvest.bulk.server).

    Every request raises CannotGoOn. `trying_again` is called with what is wrong, and the seconds until the next try.
    """

    def __init__(self, base_url: str, key: str) -> None:
        self.trying_again: Callable[[str, float], object] = lambda message, seconds: None
        self._client = httpx2.Client(
            base_url=base_url,
            headers={"Authorization": f"Api-Key {key}"},
            timeout=TIMEOUT,
            verify=trusted_certificates(),
            trust_env=False,  # the key goes straight to that server, not to a proxy from the environment
        )

    def get(self, url: str) -> Any:
        return self._patiently("GET", url, None, {}).body

    def pages(self, url: str) -> Iterator[tuple[str, list[Any]]]:
        """The pages of a list: the address and the rows of each."""
        while True:
            page = self.get(url)
            with self.understood():
                yield url, page["results"]
                if not page["next"]:
                    return
                # Behind a proxy, the server can be wrong about its own name.
                url = f"{urlsplit(url).path}?{urlsplit(page['next']).query}"

    def post(self, url: str, body: dict[str, Any] | None = None, *, headers: dict[str, str] | None = None) -> Answer:
        return self._patiently("POST", url, body, headers or {})

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Around code that reads an answer."""
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            raise CannotGoOn("The server's answer is not what its API promises.") from error

    def _patiently(self, method: str, url: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Answer:
        tries = 0
        while True:
            try:
                return self._ask(method, url, body, headers)
            except _OutOfReach as error:
                tries += 1
                if tries > len(PAUSES):
                    raise CannotGoOn(f"{error} Gave up after {tries} tries.") from error
                seconds = min(max(PAUSES[tries - 1], error.retry_after or 0), MAX_PAUSE_SECONDS)
                self.trying_again(str(error), seconds)
                time.sleep(seconds)

    def _ask(self, method: str, url: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Answer:
        try:
            response = self._client.request(method, url, json=body, headers=headers)
        except (httpx2.InvalidURL, httpx2.LocalProtocolError):
            # Without the text of the error, which can contain a header.
            raise CannotGoOn(
                f"No request to {self._client.base_url} is possible. Check --server and the API key."
            ) from None
        except httpx2.RequestError as error:
            if why := certificate_error(error):
                raise CannotGoOn(f"{self._client.base_url}: {why}.") from error
            raise _OutOfReach(f"{self._client.base_url} does not answer: {error or type(error).__name__}.") from error
        try:
            content: Any = response.json()
        except ValueError:
            content = None
        if response.status_code in {200, 202} or (response.status_code == 409 and isinstance(content, dict)):
            return Answer(response.status_code, content)
        raise _failure(response, content if isinstance(content, dict) else {})


def _failure(response: httpx2.Response, problem: dict[str, Any]) -> Exception:
    """What an error answer means for the harvest."""
    status, code = response.status_code, str(problem.get("code", ""))
    detail = str(problem.get("detail") or f"{response.request.url} answered {status} {response.reason_phrase}.")
    if (status in {408, 429} or status >= 500) and code not in _FINAL:
        wait = response.headers.get("Retry-After", "")
        return _OutOfReach(detail, float(wait) if wait.isascii() and wait.isdigit() else None)
    if response.is_redirect:
        detail = why_redirected(str(response.request.url), response.headers.get("Location", ""))
    elif status in {401, 403} and code not in _SWITCHED_OFF:
        detail = f"The server does not accept the API key: {detail}"
    elif status in {404, 405, 410}:
        detail = f"This server is not an Alexandria that can harvest authors: {detail}"
    else:
        detail = f"The server refuses: {detail}"
    return CannotGoOn(detail, code=EXIT_QUOTA if code == "quota_exhausted" else EXIT_CANNOT)
