"""The log says each thing once."""

from io import StringIO

from rest_framework.test import APIClient

from alexandria.sandbox.server import Sandbox
from tests.fixtures import known_isbns


def test_a_request_is_one_line_whatever_its_status(api: APIClient, printed: StringIO) -> None:
    expected = {"/api/quota/status": 200, "/api/books/1": 404, "/api/nope": 404, "/api/enrich/batch-direct": 405}
    assert {path: api.get(path).status_code for path in expected} == expected
    lines = printed.getvalue().splitlines()
    assert len(lines) == len(expected), printed.getvalue()
    for line, (path, status) in zip(lines, expected.items(), strict=True):
        assert "request_finished" in line
        assert path in line
        assert f"code={status}" in line


def test_a_call_that_is_tried_again_is_a_line_of_ours_each_time(
    api: APIClient, sandbox: Sandbox, printed: StringIO
) -> None:
    sandbox.add_fault("status", status=500, times=1)
    assert api.post("/api/enrich/batch-direct", known_isbns(1), format="json").status_code == 200
    assert printed.getvalue().count("isbndb.call") == 2
    assert "stamina" not in printed.getvalue()
