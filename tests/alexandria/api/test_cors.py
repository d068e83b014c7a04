"""Pages of other origins: none may use the API unless a setting names them."""

from django.test import Client

PATH = "/api/quota/status"
REQUEST_HEADERS = {"authorization", "content-type", "idempotency-key", "if-none-match", "prefer"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": ", ".join(sorted(REQUEST_HEADERS)),
}
ANSWER_HEADERS = {"ETag", "Location", "Preference-Applied", "RateLimit", "Retry-After", "X-Request-ID"}


def allowed(path: str = PATH, origin: str = "https://books.example") -> list[str | None]:
    """The origin that a preflight and a request (here without a key) may come from, as we tell the browser."""
    client = Client(headers={"Origin": origin})
    answers = [client.options(path, headers=PREFLIGHT), client.get(path)]
    return [answer.headers.get("Access-Control-Allow-Origin") for answer in answers]


def test_no_origin_is_allowed_unless_it_is_configured() -> None:
    assert allowed() == [None, None]
    assert Client().options(PATH, headers={"Origin": "https://books.example"}).status_code == 401


def test_a_configured_origin_may_use_the_api_with_a_key_and_see_its_headers(settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://books.example"]
    assert allowed() == ["https://books.example"] * 2
    assert allowed(origin="https://evil.example") == [None, None]
    assert allowed(path="/admin/login/") == [None, None]
    client = Client(headers={"Origin": "https://books.example"})
    preflight = client.options(PATH, headers=PREFLIGHT).headers
    assert set(preflight["Access-Control-Allow-Headers"].split(", ")) >= REQUEST_HEADERS
    assert "Access-Control-Allow-Credentials" not in preflight
    assert set(client.get(PATH).headers["Access-Control-Expose-Headers"].split(", ")) >= ANSWER_HEADERS
