"""Pages of other origins may use the API only if a setting allows them."""

from django.test import Client

PATH = "/api/quota/status"
REQUEST_HEADERS = {"authorization", "content-type", "idempotency-key", "if-none-match", "prefer"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": ", ".join(sorted(REQUEST_HEADERS)),
}
ANSWER_HEADERS = {"ETag", "Location", "Preference-Applied", "RateLimit", "Retry-After", "X-Request-ID"}


def allowed(path: str = PATH, origin: str = "https://books.example") -> list[str | None]:
    """The allowed origin in the answers to a preflight and to a request (here without a key)."""
    client = Client(headers={"Origin": origin})
    answers = [client.options(path, headers=PREFLIGHT), client.get(path)]
    return [answer.headers.get("Access-Control-Allow-Origin") for answer in answers]


def test_no_origin_is_allowed_unless_it_is_configured() -> None:
    assert allowed() == [None, None]
    assert Client().options(PATH, headers={"Origin": "https://books.example"}).status_code == 401


def test_a_configured_origin_can_use_the_api_and_read_its_headers(settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://books.example"]
    assert allowed() == ["https://books.example"] * 2
    assert allowed(origin="https://evil.example") == [None, None]
    assert allowed(path="/admin/login/") == [None, None]
    client = Client(headers={"Origin": "https://books.example"})
    preflight = client.options(PATH, headers=PREFLIGHT).headers
    assert set(preflight["Access-Control-Allow-Headers"].split(", ")) >= REQUEST_HEADERS
    assert "Access-Control-Allow-Credentials" not in preflight
    assert set(client.get(PATH).headers["Access-Control-Expose-Headers"].split(", ")) >= ANSWER_HEADERS
