"""/api/schema/ and /api/docs/ describe what the API does."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import yaml
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from jsonschema import Draft202012Validator
from rest_framework.test import APIClient
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from alexandria.development.sandbox.catalogue import UNKNOWN_AUTHOR
from alexandria.development.sandbox.server import Sandbox
from alexandria.wsgi import application
from enrichment.jobs.workers import run_job
from enrichment.models import Author, Job, Work
from quota.models import Consumer
from quota.services import reservations
from tests.fixtures import a_minute_passes, database_moved, known_isbns, unknown_isbns

CONFORMANCE = [status_code_conformance, content_type_conformance, response_schema_conformance]
BIBLIOGRAPHY, RELEASES = "/api/authors/enrich-bibliography", "/api/books/enrich-new-releases"
BOOKS, AUTHORS, AUTHOR, WORK = "/api/books", "/api/authors", "/api/authors/{author_id}", "/api/works/{work_id}"
BATCH, QUEUE = "/api/enrich/batch-direct", "/api/enrich/queue"
BOOK, STATUS = "/api/books/{isbn}", "/api/quota/status"
OPEN_TO_ALL = {"/api/schema/", "/api/docs/"}
WITHOUT_SLASH = {"/api/schema", "/api/docs"}


@pytest.fixture
def authorization(key: str) -> dict[str, str]:
    return {"Authorization": f"Api-Key {key}"}


@pytest.fixture
def schema(transactional_db: None, sandbox: Sandbox) -> BaseSchema:
    return schemathesis.openapi.from_wsgi("/api/schema/", application)


@pytest.mark.slow
def test_the_schema_is_valid_openapi_and_has_no_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn")
    assert "openapi: 3" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.no_cover
def test_every_generated_request_gets_an_answer_of_the_schema(
    schema: BaseSchema, authorization: dict[str, str], settings
) -> None:
    settings.API_REQUESTS_PER_MINUTE = 0
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 60, 10  # one page is enough for ten years of books
    answered: Counter[int] = Counter()
    for operation in schema.get_all_operations():
        for mode in GenerationMode:

            @hypothesis_settings(max_examples=10, suppress_health_check=list(HealthCheck))
            @given(case=operation.ok().as_strategy(generation_mode=mode))
            def conforms(case: Case) -> None:
                checks = [not_a_server_error, *CONFORMANCE]
                response = case.call_and_validate(headers=authorization, checks=checks)
                answered[response.status_code] += 1

            conforms()
    assert {200, 400, 401, 404} <= set(answered)


@pytest.mark.slow
def test_every_kind_of_answer_is_in_the_schema(
    schema: BaseSchema, authorization: dict[str, str], sandbox: Sandbox, settings
) -> None:
    def answer(method: str, path: str, *, headers: dict[str, str] | None = None, **parts: Any) -> int:
        case = schema[path][method].Case(headers=authorization | (headers or {}), **parts)
        return case.call_and_validate(checks=CONFORMANCE).status_code

    def enrich(isbns: list[str], **parts: Any) -> int:
        a_minute_passes()
        body = {"isbns": isbns, "refresh": True}
        return answer("POST", BATCH, **{"body": body, "media_type": "application/json"} | parts)

    def job(method: str, path: str, **parts: Any) -> int:
        return answer(
            method, f"/api/jobs/{{job_id}}{path}", path_parameters={"job_id": str(Job.objects.get().pk)}, **parts
        )

    def post(path: str, body: dict[str, Any]) -> int:
        return answer("POST", path, body=body, media_type="application/json")

    isbn = known_isbns(1)[0]
    assert enrich([isbn, *unknown_isbns(1), "wrong"]) == 200
    assert answer("GET", BOOK, path_parameters={"isbn": isbn}) == 200
    assert answer("GET", BOOK, path_parameters={"isbn": "12345"}) == 404
    etag = APIClient().get(f"/api/books/{isbn}", headers=authorization).headers["ETag"]
    assert answer("GET", BOOK, path_parameters={"isbn": isbn}, headers={"If-None-Match": etag}) == 304
    as_job = {"Prefer": "respond-async", "Idempotency-Key": "a"}
    assert enrich([isbn, "wrong"], headers=as_job) == 202
    assert enrich([isbn], headers=as_job) == 409
    assert enrich([isbn], headers=as_job | {"Idempotency-Key": "x" * 129}) == 422
    assert [job("GET", ""), job("GET", "/items"), answer("GET", "/api/jobs")] == [200, 200, 200]
    assert [job("GET", "/items", query={"state": "x"}), job("GET", "/items", query={"cursor": "cD14"})] == [400, 400]
    assert [job("POST", "/cancel"), job("POST", "/cancel"), job("POST", "/retry")] == [200, 409, 202]
    run_job()
    assert job("GET", "") == 200
    for accept in ("application/json", "application/x-ndjson", "text/csv"):
        assert job("GET", "/books", headers={"Accept": accept}) == 200
        looked_up = {"body": {"isbns": [isbn, "wrong"]}, "media_type": "application/json"}
        assert answer("POST", "/api/books/lookup", headers={"Accept": accept}, **looked_up) == 200
    assert enrich([isbn], body={"isbns": [isbn, "wrong"], "return": "books"}) == 200
    wanted = {"isbns": [isbn, *known_isbns(3), "wrong"], "priority": "high"}
    assert answer("POST", QUEUE, body=wanted, media_type="application/json") == 202
    assert answer("GET", QUEUE) == 200
    assert answer("GET", STATUS) == 200
    assert [answer("GET", f"/api/quota/{name}") for name in ("me", "history", "calls")] == [200, 200, 200]
    assert answer("GET", "/api/quota/forecast", query={"calls": 5_000}) == 200
    assert answer("GET", "/api/quota/forecast") == 400
    assert answer("GET", "/api/quota/calls", query={"consumer": "other"}) == 403
    assert answer("GET", STATUS, headers={"Authorization": "Api-Key wrong"}) == 401
    assert answer("GET", STATUS, headers={"Accept": "text/html"}) == 406
    assert enrich([isbn] * 1001) == 400
    assert enrich([" " * 4 * 1024 * 1024]) == 413
    assert enrich([isbn], headers={"Content-Type": "text/html"}) == 415
    sandbox.add_fault("status", status=500, times=3)
    assert enrich([isbn]) == 502
    settings.ISBNDB_TIMEOUT_SECONDS = 0.3
    sandbox.add_fault("latency", seconds=60, times=1)
    assert enrich([isbn]) == 504
    settings.ISBNDB_TIMEOUT_SECONDS = 30
    for path in ("/author", "/books"):  # ISBNdb's counter answers, which settles what a 403 means
        sandbox.add_fault("status", status=403, times=1, path=path)
    assert post(BIBLIOGRAPHY, {"author_name": "Andy Weir"}) == 502
    assert post(RELEASES, {"start_month": "2024-01", "end_month": "2024-02"}) == 502
    assert post(BIBLIOGRAPHY, {"author_name": "Andy Weir"}) == 200
    assert post(BIBLIOGRAPHY, {"author_name": UNKNOWN_AUTHOR, "start_page": 2, "source": "schema"}) == 200
    assert post(RELEASES, {"start_month": "2023-12", "end_month": "2023-12", "subjects": ["Poetry"]}) == 200
    assert post(RELEASES, {"start_month": "2024-02", "end_month": "2024-01"}) == 400
    assert answer("GET", BOOKS, query={"author": "weir", "title": "the", "page_size": 2}) == 200
    assert answer("GET", BOOKS, query={"fields": ["title"], "ordering": "-date", "published_to": "2030"}) == 200
    assert answer("GET", BOOKS, query={"isbn": [isbn], "updated_since": "2000-01-01T00:00:00Z"}) == 200
    assert answer("GET", BOOKS, query={"year": 0}) == 400
    assert answer("GET", "/api/stats") == 200
    assert answer("GET", AUTHORS, query={"search": "weir"}) == 200
    author = Author.objects.get(name="Andy Weir")
    assert answer("GET", AUTHOR, path_parameters={"author_id": author.pk}) == 200
    assert answer("GET", WORK, path_parameters={"work_id": Work.objects.earliest("pk").pk}) == 200
    assert answer("GET", WORK, path_parameters={"work_id": 0}) == 404
    assert answer("GET", f"{AUTHORS}/top", query={"limit": 3}) == 200
    reservations.increment(13_000)
    assert enrich([isbn]) == 429
    assert post(BIBLIOGRAPHY, {"author_name": "Ada Brandvold"}) == 429
    assert post(RELEASES, {"start_month": "2024-01", "end_month": "2024-02"}) == 429
    with database_moved(port=1):
        assert post(BATCH, {"isbns": [isbn]}) == 503
    settings.API_REQUESTS_PER_MINUTE = 1
    assert answer("GET", STATUS) == 429
    Consumer.objects.update(active=False)
    assert enrich([isbn]) == 403


def api_paths(patterns: list[URLPattern | URLResolver], before: str = "/") -> Iterator[str]:
    """Every path under /api/ with a view. Parameters are replaced by x."""
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from api_paths(pattern.url_patterns, route)
        elif route.startswith("/api/"):
            yield re.sub(r"<[^>]+>", "x", route)


@pytest.mark.slow
def test_every_path_under_api_except_schema_and_docs_needs_a_key(api: APIClient) -> None:
    paths = set(api_paths(get_resolver().url_patterns)) - WITHOUT_SLASH
    assert len(paths) >= 5
    assert paths >= OPEN_TO_ALL
    api.credentials()
    for path in paths - OPEN_TO_ALL:
        for method in ("get", "post", "put", "patch", "delete", "head", "options"):
            assert getattr(api, method)(path).status_code == 401, f"{method} {path}"
    for path in OPEN_TO_ALL:
        assert api.get(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/", "/api/docs/"),
        ("/api/docs", "/api/docs/"),
        ("/api/schema?format=json", "/api/schema/?format=json"),
    ],
)
def test_the_root_and_paths_without_their_slash_redirect(path: str, place: str) -> None:
    response = Client().get(path)
    assert (response.status_code, response.headers["Location"]) == (302, place)


@pytest.mark.slow
def test_every_path_except_schema_and_docs_is_in_the_schema(schema: BaseSchema) -> None:
    documented = {re.sub(r"{[^}]+}", "x", operation.ok().path) for operation in schema.get_all_operations()}
    assert documented == set(api_paths(get_resolver().url_patterns)) - OPEN_TO_ALL - WITHOUT_SLASH


def test_every_problem_in_the_schema_has_an_example_and_every_operation_its_key(schema: BaseSchema) -> None:
    raw = schema.raw_schema
    assert raw["components"]["securitySchemes"]["ApiKey"]["name"] == "Authorization"
    for path, operations in raw["paths"].items():
        for operation in operations.values():
            assert operation["security"] == [{"ApiKey": []}]
            for status, response in operation["responses"].items():
                if int(status) >= 400 and status != "414":  # the web server answers that
                    for code, example in response["content"]["application/problem+json"]["examples"].items():
                        assert (example["value"]["status"], example["value"]["code"]) == (int(status), code), path
    for path in (BATCH, BIBLIOGRAPHY, RELEASES):
        assert set(raw["paths"][path]["post"]["responses"]) == {
            "200",
            "202",
            "400",
            "401",
            "403",
            "406",
            "408",
            "409",
            "411",
            "413",
            "415",
            "422",
            "429",
            "500",
            "502",
            "503",
            "504",
        }
    listing = {"200", "400", "401", "403", "406", "414", "429", "500", "503"}
    assert set(raw["paths"][BOOKS]["get"]["responses"]) == listing
    refused = raw["paths"][BATCH]["post"]["responses"]["429"]["content"]["application/problem+json"]["examples"]
    throttled = raw["paths"][STATUS]["get"]["responses"]["429"]["content"]["application/problem+json"]["examples"]
    reconcile = raw["paths"]["/api/quota/reconcile"]["post"]["responses"]["429"]["content"]["application/problem+json"]
    assert set(reconcile["examples"]) == {*refused, "just_reconciled"}
    assert (set(refused), set(throttled)) == (
        {"quota_exhausted", "too_many_jobs", "throttled", "too_many_at_once"},
        {"throttled", "too_many_at_once"},
    )


def json_schema(schema: Any) -> Any:
    """Converts an OpenAPI 3.0 schema to a JSON schema, where null is a type."""
    if isinstance(schema, list):
        return [json_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {name: json_schema(part) for name, part in schema.items() if name != "nullable"}
    return {"anyOf": [rest, {"type": "null"}]} if schema.get("nullable") is True else rest


@pytest.mark.slow
def test_every_example_matches_its_schema(schema: BaseSchema) -> None:
    raw = schema.raw_schema
    components = json_schema(raw["components"])
    checked = set()
    for path, operations in raw["paths"].items():
        for method, operation in operations.items():
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for content in body.get("content", {}).values():
                    validator = Draft202012Validator(
                        json_schema(content["schema"]) | {"components": components},
                        format_checker=Draft202012Validator.FORMAT_CHECKER,
                    )
                    for example in content.get("examples", {}).values():
                        validator.validate(example["value"])
                        checked.add((method, path, name))
    own = [path for path in raw["paths"] if path.startswith("/api/quota/") and path != "/api/quota/reconcile"]
    assert checked >= {("post", BATCH, "request"), ("post", BATCH, "200"), ("post", BATCH, "429"), ("get", BOOK, "200")}
    assert checked >= {("get", path, "200") for path in own}


def test_the_docs_page_needs_no_external_asset_and_keeps_no_key() -> None:
    client = Client()
    page = client.get("/api/docs/").content.decode()
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert any("swagger-ui-bundle.js" in asset for asset in assets)
    for asset in assets:
        assert asset.startswith(("/static/", "/api/docs/"))
        response = client.get(asset)
        assert response.status_code == 200, asset
        response.close()
    script = client.get("/api/docs/?script=").content.decode()
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", page) == []
    assert '"validatorUrl": null' in script
    assert "persistAuthorization" not in script
    assert 'url: "/api/schema/"' in script


def test_the_schema_is_made_once_for_each_form(transactional_db, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    forms = [{"Accept": f"application/vnd.oai.openapi{suffix}"} for suffix in ("+json", "")]
    as_json, as_yaml = (client.get("/api/schema/?version=1", headers=form).content for form in forms)
    assert json.loads(as_json) == yaml.safe_load(as_yaml)
    monkeypatch.setattr(SchemaGenerator, "get_schema", None)
    assert [client.get("/api/schema/?version=2", headers=form).content for form in forms] == [as_json, as_yaml]
