"""A bulk harvest through a server: its API over HTTP, and no database of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from harvest.bulk.exceptions import AuthorFailed, CannotGoOn, QuotaGone, TryLater
from harvest.bulk.run import Page, Quota

# A page may wait for the pace, and be asked of ISBNdb again after a failure, before the server answers.
TIMEOUT = httpx2.Timeout(300, connect=10)  # seconds
_AFTER_ASKING = (httpx2.ReadError, httpx2.ReadTimeout, httpx2.RemoteProtocolError)
_SWITCHED_OFF = {"consumer_inactive", "consumer_unknown", "harvest_off"}
_ISBNDB = {"isbndb_failed", "isbndb_timeout"}


class RemoteFetcher:
    """Fetches through the server at `base_url` with an API key (see harvest.bulk.server), as that key's consumer."""

    source = "bulk"

    def __init__(self, base_url: str, key: str) -> None:
        self._client = httpx2.Client(
            base_url=base_url,
            headers={"Authorization": f"Api-Key {key}"},
            timeout=TIMEOUT,
            trust_env=False,  # the key goes to that server, through no proxy that happens to be in the environment
        )

    def quota(self) -> Quota:
        status = self._ask("GET", "/api/quota/status")
        mine = self._send("GET", "/api/quota/me")  # older servers have no such thing
        with _understood():
            allowance = mine.json() if mine.status_code == 200 else {"free": None}
            free = allowance["free"] if status["can_make_calls"] else 0
            limit = allowance.get("limited_by")
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
        """The server does not say before it is asked for each: none that we know of."""
        return 0

    def days(self, calls: int) -> int | None:
        quota = self.quota()
        rest = max(0, calls - quota.most)
        if rest and quota.safety_limit <= 0:
            return None
        return -(-rest // max(1, quota.safety_limit)) + (calls > 0 and quota.most > 0)

    def names_by_editions(self, first: int, last: int) -> list[str]:
        authors = self._ask("GET", f"/api/authors/top?limit={last}")
        with _understood():
            return [author["name"] for author in authors[first - 1 :]]

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of a 200. Raises what `Fetcher` says."""
        response = self._send(method, url, body)
        try:
            content: Any = response.json()
        except ValueError:
            content = None
        if response.status_code == 200:
            return content
        raise _failure(response, content if isinstance(content, dict) else {})

    def _send(self, method: str, url: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        """The answer, whatever it is. Raises TryLater when there is none, and CannotGoOn."""
        try:
            return self._client.request(method, url, json=body)
        except (httpx2.InvalidURL, httpx2.LocalProtocolError):
            # Not with the words of the error, which may have a header's content.
            raise CannotGoOn(f"{self._client.base_url} cannot be asked: no such request can be made.") from None
        except httpx2.RequestError as error:
            message = f"{self._client.base_url} does not answer: {error or type(error).__name__}."
            raise TryLater(message, in_doubt=method == "POST" and isinstance(error, _AFTER_ASKING)) from error


def _failure(response: httpx2.Response, problem: dict[str, Any]) -> Exception:
    """What an answer other than a good one means for the harvest."""
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
        # Without our own words it is a proxy's answer; but for a 503 it may have handed the request on.
        in_doubt = response.request.method == "POST" and status >= 500 and status != 503 and not code
        error = TryLater(detail, calls=calls, retry_after=seconds, in_doubt=in_doubt)
    elif response.is_redirect:
        there = urlsplit(response.headers.get("Location", ""))
        error = CannotGoOn(f"{response.request.url} is elsewhere: try --server {there.scheme}://{there.netloc}.")
    else:
        error = CannotGoOn(f"That is no Alexandria that harvests authors: {detail}")
    return error


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise CannotGoOn("The server answered with something that is not what its API says.") from error
