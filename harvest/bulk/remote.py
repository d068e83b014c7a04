"""A bulk harvest through a server: uses its API over HTTP, and no database."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from harvest.bulk.exceptions import AuthorFailed, CannotGoOn, QuotaGone, TryLater
from harvest.bulk.run import Page, Quota

# Before the server answers, a page can wait for the pace and for retries of ISBNdb.
TIMEOUT = httpx2.Timeout(300, connect=10)  # seconds
_AFTER_ASKING = (httpx2.ReadError, httpx2.ReadTimeout, httpx2.RemoteProtocolError)
_SWITCHED_OFF = {"consumer_inactive", "consumer_unknown", "harvest_off"}
_ISBNDB = {"isbndb_failed", "isbndb_timeout"}


class RemoteFetcher:
    """Fetches through the server at `base_url` as the consumer of the API key (see harvest.bulk.server)."""

    source = "bulk"

    def __init__(self, base_url: str, key: str) -> None:
        self._client = httpx2.Client(
            base_url=base_url,
            headers={"Authorization": f"Api-Key {key}"},
            timeout=TIMEOUT,
            trust_env=False,  # the key goes straight to that server, not to a proxy from the environment
        )

    def quota(self) -> Quota:
        status = self._ask("GET", "/api/quota/status")
        allowance = self._ask("GET", "/api/quota/me")
        with _understood():
            free = allowance["free"] if status["can_make_calls"] else 0
            limit = allowance["limited_by"]
            return Quota(
                used=status["used"],
                reserved=status["reserved"],
                safety_limit=status["safety_limit"],
                remaining=status["remaining"],
                free=free,
                reset_at=datetime.fromisoformat(status["reset_at"]),
                why_none=f"Limited by {limit}." if free == 0 and limit else "",
            )

    def fetch(self, name: str, *, page: int) -> Page:
        wanted = {"author_name": name, "max_pages": 1, "start_page": page, "skip_existing": True, "source": self.source}
        answer = self._ask("POST", "/api/authors/enrich-bibliography", wanted)
        with _understood():
            return Page(
                books=answer["books_found"],
                enriched=answer["enriched"],
                failed=answer["failed"],
                calls=answer["api_calls"],
                complete=answer["complete"],
                next_page=answer["next_page"],
                stopped_reason=answer["stopped_reason"],
                free=answer["quota"]["remaining"],
            )

    def remembered(self, names: list[str]) -> int:
        """Always 0: the API does not say which authors are recorded as unknown."""
        return 0

    def days(self, calls: int) -> int | None:
        quota = self.quota()
        rest = max(0, calls - quota.free)
        if rest and quota.safety_limit <= 0:
            return None
        return -(-rest // max(1, quota.safety_limit)) + (calls > 0 and quota.free > 0)

    def names_by_editions(self, first: int, last: int) -> list[str]:
        authors = self._ask("GET", f"/api/authors/top?limit={last}")
        with _understood():
            return [author["name"] for author in authors[first - 1 :]]

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of a 200. Raises the errors of `Fetcher`."""
        response = self._send(method, url, body)
        try:
            content: Any = response.json()
        except ValueError:
            content = None
        if response.status_code == 200:
            return content
        raise _failure(response, content if isinstance(content, dict) else {})

    def _send(self, method: str, url: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        """The answer, whatever its status. Raises TryLater when there is none, and CannotGoOn."""
        try:
            return self._client.request(method, url, json=body)
        except (httpx2.InvalidURL, httpx2.LocalProtocolError):
            # Without the text of the error, which can contain a header.
            raise CannotGoOn(
                f"No request to {self._client.base_url} is possible. Check --server and the API key."
            ) from None
        except httpx2.RequestError as error:
            message = f"{self._client.base_url} does not answer: {error or type(error).__name__}."
            raise TryLater(message, in_doubt=method == "POST" and isinstance(error, _AFTER_ASKING)) from error


def _failure(response: httpx2.Response, problem: dict[str, Any]) -> Exception:
    """What an error answer means for the harvest."""
    status, code = response.status_code, str(problem.get("code", ""))
    detail = str(problem.get("detail") or f"{response.request.url} answered {status} {response.reason_phrase}.")
    calls = int(problem.get("api_calls") or 0)
    wait = response.headers.get("Retry-After", "")
    seconds = float(wait) if wait.isascii() and wait.isdigit() else None
    error: Exception
    if status == 429 and code == "quota_exhausted":
        at = problem.get("retry_at")
        retry_at = datetime.fromisoformat(at) if isinstance(at, str) else None
        limit = str(problem.get("limit", "quota"))
        error = QuotaGone(limit, detail, retry_at=retry_at, seconds=seconds, calls=calls)
    elif status == 403 and code in _SWITCHED_OFF:
        error = CannotGoOn(f"The server refuses: {detail}")
    elif status in {401, 403}:
        error = CannotGoOn(f"The server does not accept the API key: {detail}")
    elif code in _ISBNDB:
        error = AuthorFailed(code, detail, calls=calls)
    elif status in {400, 422}:
        error = AuthorFailed("refused", detail, calls=calls)
    elif status in {408, 429} or status >= 500:
        # Without a code of ours a proxy answered. Unless it is a 503, it may have passed the request on.
        in_doubt = response.request.method == "POST" and status >= 500 and status != 503 and not code
        error = TryLater(detail, calls=calls, retry_after=seconds, in_doubt=in_doubt)
    elif response.is_redirect:
        target = urlsplit(response.headers.get("Location", ""))
        error = CannotGoOn(f"{response.request.url} has moved. Try --server {target.scheme}://{target.netloc}.")
    else:
        error = CannotGoOn(f"This server is not an Alexandria that can harvest authors: {detail}")
    return error


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise CannotGoOn("The server's answer is not what its API promises.") from error
