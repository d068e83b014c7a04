"""Every answer has the headers by which a browser limits what our pages can do."""

from typing import Any

import pytest
from django.test import Client

from alexandria.common.headers import PERMISSIONS

ANSWERS: dict[str, tuple[int, dict[str, Any]]] = {
    "/livez": (200, {}),
    "/": (302, {}),
    "/admin/": (302, {}),
    "/admin/login/": (200, {}),
    "/admin/nope": (302, {}),
    "/static/admin/css/base.css": (200, {}),
    "/nope": (404, {}),
    "/api/docs/": (200, {}),
    "/api/docs/?script=": (200, {}),
    "/api/quota/status": (401, {}),
    "/isbndb/key": (401, {}),
    "/admin/login/?host": (400, {"headers": {"Host": "evil.example"}}),
    "/admin/login/?charset": (415, {"method": "post", "content_type": "text/plain; charset=punycode", "data": b"x"}),
    "/?fails": (500, {}),
}


@pytest.mark.parametrize("path", ANSWERS)
def test_every_answer_has_them(transactional_db: None, settings, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    settings.DEBUG = False
    settings.SECURE_HSTS_SECONDS = 60
    status, given = ANSWERS[path]
    if "fails" in path:
        monkeypatch.setattr("django.views.generic.RedirectView.get", lambda *args, **options: 1 / 0)
    options = {"method": "get"} | given
    client = Client(raise_request_exception=False)
    answer = getattr(client, options.pop("method"))(path, secure=True, **options)
    answer.close()
    assert answer.status_code == status
    assert answer["Strict-Transport-Security"] == "max-age=60"
    assert answer["Permissions-Policy"] == PERMISSIONS
    assert (answer["X-Content-Type-Options"], answer["Referrer-Policy"]) == ("nosniff", "same-origin")
    policy = dict(rule.split(" ", 1) for rule in answer["Content-Security-Policy"].split("; "))
    scripts = "'self' 'unsafe-eval'" if path.startswith("/admin/") else "'self'"
    assert (policy["default-src"], policy["script-src"], policy["frame-ancestors"]) == ("'none'", scripts, "'none'")


@pytest.mark.parametrize("path", ["/api/docs/", "/api/schema/"])
def test_the_pages_of_the_api_have_no_options(client: Client, path: str) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer["Content-Type"]) == (405, "application/problem+json")
