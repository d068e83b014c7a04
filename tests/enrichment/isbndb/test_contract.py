"""/isbndb/ keeps to ISBNdb's own OpenAPI file."""

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from alexandria.development.sandbox.server import Sandbox
from alexandria.wsgi import application
from quota.models import Consumer
from tests.enrichment.isbndb.contract import as_answered
from tests.fixtures import known_isbns, unknown_isbns

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture
def contract(transactional_db: None, sandbox: Sandbox) -> BaseSchema:
    schema = schemathesis.openapi.from_dict(as_answered())
    schema.app = application
    return schema


@pytest.mark.slow
@pytest.mark.no_cover
def test_every_request_of_isbndbs_file_gets_an_answer_of_it(contract: BaseSchema, key: str, settings) -> None:
    settings.API_REQUESTS_PER_MINUTE = 0
    Consumer.objects.update(daily_budget=60)
    answered: Counter[int] = Counter()
    for operation in contract.get_all_operations():
        for mode in GenerationMode:

            @hypothesis_settings(max_examples=10, suppress_health_check=list(HealthCheck))
            @given(case=operation.ok().as_strategy(generation_mode=mode))
            def conforms(case: Case) -> None:
                response = case.call_and_validate(headers={"Authorization": key}, checks=CHECKS)
                answered[response.status_code] += 1

            conforms()
    assert {200, 400, 404} <= set(answered)


@pytest.mark.slow
def test_every_kind_of_answer_is_in_isbndbs_file(contract: BaseSchema, key: str) -> None:
    def answer(method: str, path: str, **parts: Any) -> int:
        case = contract[f"/isbndb{path}"][method].Case(headers={"Authorization": key}, **parts)
        return case.call_and_validate(checks=CHECKS).status_code

    def book(isbn: str) -> int:
        return answer("GET", "/book/{isbn}", path_parameters={"isbn": isbn})

    body = {"isbns": [*known_isbns(2), *unknown_isbns(1), "nonsense", 1]}
    assert answer("POST", "/books", body=body, media_type="application/json") == 200
    assert (book(known_isbns(1)[0]), book(unknown_isbns(1)[0])) == (200, 404)
    assert answer("GET", "/author/{name}", path_parameters={"name": "Andy Weir"}, query={"pageSize": 3}) == 200
    assert answer("GET", "/books/{query}", path_parameters={"query": "sea"}, query={"column": "title"}) == 200
    for kind in ("publisher", "subject"):
        assert answer("GET", f"/{kind}/{{name}}", path_parameters={"name": "sea"}) == 200
    assert answer("GET", "/search/books", query={"publisher": "sea"}) == 200
    assert answer("GET", "/search/books") == 400
    assert (answer("GET", "/key"), answer("GET", "/stats")) == (200, 200)
    Consumer.objects.update(daily_budget=0)
    assert book(known_isbns(9)[8]) == 429
