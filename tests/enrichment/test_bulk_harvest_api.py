"""POST /api/authors/bulk-harvest, and the authors, the pause and the figures of its job."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from enrichment.jobs.lifecycle import cancel_job
from enrichment.models import Job, JobAuthor
from quota.models import Consumer, ConsumerKey
from tests.fixtures import problem

PATH = "/api/authors/bulk-harvest"
NAMES = ["Ada Brandvold", "Brandvold, Ada", " ", "Andy Weir", "andy  weir", "Nobody Known"]
FIGURES = ("found", "new", "changed", "unchanged", "already_fresh", "failed")

pytestmark = pytest.mark.usefixtures("sandbox")


def post(api: APIClient, authors: object = NAMES, *, prefer: str = "respond-async", **rest: Any) -> Any:
    headers = {"Prefer": prefer} | rest.pop("headers", {})
    return api.post(PATH, {"authors": authors} | rest, format="json", headers=headers)


def test_a_list_becomes_a_job_in_which_all_spellings_of_a_name_count_once(api: APIClient) -> None:
    response = post(api, label="authors.txt", source="spring", max_pages=2)
    assert response.status_code == 202, response.content
    body = response.json()
    assert response["Location"] == f"/api/jobs/{body['id']}"
    assert response["Preference-Applied"] == "respond-async"
    assert (body["kind"], body["state"], body["label"], body["source"]) == (
        "authors",
        "queued",
        "authors.txt",
        "spring",
    )
    assert body["progress"] == {"done": 0, "total": 3}
    assert body["eta"] is not None
    assert body["figures"]["authors"] == body["figures"]["authors_pending"] == 3
    assert {name: body["figures"][name] for name in FIGURES} == dict.fromkeys(FIGURES, 0)
    assert Job.objects.get().item_count == 3


def test_without_the_preference_the_answer_says_that_it_is_always_a_job(api: APIClient) -> None:
    refused = problem(post(api, prefer=""), 400)
    assert refused["detail"] == "Prefer: This is always a job. Send the header Prefer: respond-async."
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("authors", "field", "said"),
    [
        ([], "authors", "The list has no author name in it."),
        (["", " "], "authors", "The list has no author name in it."),
        (["Andy Weir", "9780441172719", "x" * 151, "42"], "authors.1", "This is not a name: no letter."),
        ("Andy Weir", "authors", "Expected a list"),
        (["Andy Weir", 5], "authors.1", "This must be a text."),
        (["Andy Weir"] * 20_001, "authors", "Ensure this field has no more than 20000 elements."),
    ],
    ids=["no name", "only blanks", "not names", "a text", "a number", "too many"],
)
def test_what_is_not_a_list_of_names_is_refused_by_its_position(
    authors: object, field: str, said: str, api: APIClient
) -> None:
    [first, *more] = problem(post(api, authors), 400)["errors"]
    assert first["field"] == field
    assert said in first["detail"]
    assert [error["field"] for error in more] == (["authors.2", "authors.3"] if said.endswith("no letter.") else [])


def test_unknown_and_wrong_options_are_refused_by_name(api: APIClient) -> None:
    refused = problem(post(api, max_pages=11, again="yes", pages=1, source="job:1"), 400)
    assert {error["field"] for error in refused["errors"]} == {"max_pages", "again", "pages", "source"}


def test_the_same_list_is_not_paid_for_again_in_silence(api: APIClient) -> None:
    job = Job.objects.get(pk=post(api, max_pages=3).json()["id"])
    begun = problem(post(api), 409)
    assert (begun["code"], begun["job"]) == ("already_begun", str(job.pk))
    Job.objects.update(state="succeeded", resume_at=None, ended_at=job.created_at, done=3)
    finished = problem(post(api, ["brandvold, ada", "Andy Weir", "Nobody Known"], max_pages=3), 409)
    assert (finished["code"], finished["job"]) == ("already_finished", str(job.pk))
    assert (finished["calls_at_least"], finished["calls_at_most"]) == (3, 9)
    assert f"{job.created_at:%Y-%m-%d}" in finished["detail"]
    assert post(api, again=True).status_code == 202
    assert Job.objects.count() == 2


def test_a_list_whose_names_change_has_a_key_of_its_own(api: APIClient) -> None:
    job = post(api, list_key="tier:top-100").json()
    assert job["list_key"] == "tier:top-100"
    assert problem(post(api, ["Andy Weir"], list_key="tier:top-100"), 409)["job"] == job["id"]
    assert post(api).status_code == 202, "by its names it is another list"
    found = api.get("/api/jobs?list_key=tier:top-100").json()["results"]
    assert [each["id"] for each in found] == [job["id"]]
    assert problem(post(api, list_key="a b"), 400)["errors"][0]["field"] == "list_key"


def test_the_same_key_returns_the_same_job(api: APIClient) -> None:
    key: dict[str, Any] = {"headers": {"Idempotency-Key": "spring"}}
    first, second = post(api, **key), post(api, label="another name", **key)
    assert (first.status_code, first["Location"]) == (second.status_code, second["Location"])
    assert problem(post(api, ["Andy Weir"], **key), 409)["code"] == "idempotency_conflict"


def test_the_authors_of_a_job_are_listed_with_figures_that_add_up_and_by_state(api: APIClient) -> None:
    location = post(api)["Location"]
    figures = {"found": 15, "new": 1, "changed": 2, "unchanged": 3, "already_fresh": 4, "failed": 5}
    JobAuthor.objects.filter(position=2).update(state="cut", pages=2, calls=3, reason="max_pages", **figures)
    listed = api.get(f"{location}/authors").json()
    assert [(row["position"], row["name"], row["state"]) for row in listed["results"]] == [
        (1, "Ada Brandvold", "pending"),
        (2, "Andy Weir", "cut"),
        (3, "Nobody Known", "pending"),
    ]
    [cut] = api.get(f"{location}/authors?state=cut").json()["results"]
    expected = {"already_fresh": 4, **{name: figures[name] for name in FIGURES if name != "already_fresh"}}
    assert {name: cut[name] for name in FIGURES} == expected
    assert cut["found"] == sum(cut[name] for name in FIGURES[1:])
    assert (cut["pages"], cut["calls"], cut["reason"]) == (2, 3, "max_pages")
    detail = api.get(location).json()["figures"]
    assert (detail["authors_cut"], detail["authors_pending"], detail["pages_fetched"]) == (1, 2, 2)
    assert detail["found"] == 15
    assert problem(api.get(f"{location}/authors?state=lost"), 400)["errors"][0]["field"] == "state"
    jobs = api.get("/api/jobs?kind=authors").json()["results"]
    assert [f"/api/jobs/{job['id']}" for job in jobs] == [location]
    assert api.get("/api/jobs?kind=bibliography").json()["results"] == []


def test_a_job_of_another_kind_has_no_authors_and_no_figures_of_them(api: APIClient) -> None:
    body = {"author_name": "Andy Weir"}
    location = api.post(
        "/api/authors/enrich-bibliography", body, format="json", headers={"Prefer": "respond-async"}
    ).headers["Location"]
    assert api.get(f"{location}/authors").json()["results"] == []
    assert api.get(location).json()["figures"] is None


def test_a_job_is_paused_and_resumed(api: APIClient) -> None:
    location = post(api)["Location"]
    assert problem(api.post(f"{location}/resume"), 409)["code"] == "job_not_paused"
    paused = api.post(f"{location}/pause")
    assert (paused.status_code, paused.json()["state"], paused.json()["eta"]) == (200, "paused", None)
    resumed = api.post(f"{location}/resume")
    assert (resumed.status_code, resumed.json()["state"]) == (202, "queued")
    job = Job.objects.get()
    Job.objects.update(state="running", runner=job.pk, lease_until=job.created_at, started_at=job.created_at)
    Job.objects.update(resume_at=None)
    asked = api.post(f"{location}/pause")
    assert (asked.status_code, asked.json()["state"], asked.json()["pause_requested"]) == (202, "running", True)
    assert api.post(f"{location}/resume").json()["pause_requested"] is False
    cancel_job(job.pk)
    Job.objects.update(state="cancelled", runner=None, lease_until=None, ended_at=job.created_at)
    for act in ("pause", "resume"):
        assert problem(api.post(f"{location}/{act}"), 409)["code"] == "job_ended"


def test_another_consumer_cannot_see_or_pause_it(api: APIClient) -> None:
    location = post(api)["Location"]
    _, key = ConsumerKey.objects.create_key(name="other", consumer=Consumer.objects.create(slug="other"))
    api.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    problem(api.get(f"{location}/authors"), 404)
    for act in ("pause", "resume"):
        problem(api.post(f"{location}/{act}"), 404)
    assert post(api).status_code == 202, "the list is another consumer's"


@pytest.mark.slow
def test_a_list_of_twenty_thousand_names_is_taken_in_one_body(api: APIClient, django_assert_max_num_queries) -> None:
    names = [f"{chr(97 + number % 26)}author {chr(97 + number // 26 % 26)}{number}" for number in range(20_000)]
    assert len(json.dumps({"authors": names})) < 4 * 1024 * 1024
    with django_assert_max_num_queries(60):
        location = post(api, names)["Location"]
    page = api.get(f"{location}/authors").json()
    assert (len(page["results"]), page["next"] is not None) == (1000, True)
    with django_assert_max_num_queries(8):
        api.get(f"{location}/authors")
