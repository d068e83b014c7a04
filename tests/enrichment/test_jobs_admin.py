"""Jobs in the admin: people can view, cancel and retry them, and nothing else."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from alexandria.development.sandbox.server import Sandbox
from enrichment.jobs.lifecycle import cancel_job, create_job
from enrichment.jobs.workers import run_job
from enrichment.models import Job
from quota.models import Consumer
from quota.prices import RequestKind
from quota.services import reservations
from tests.enrichment.staff import member
from tests.fixtures import NOON, known_isbns, unknown_isbns

CHANGELIST = "admin:enrichment_job_changelist"


def create(consumer: Consumer) -> Job:
    return create_job(consumer=consumer, kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": known_isbns(2)})


def act(client: Client, action: str) -> list[str]:
    chosen = list(Job.objects.values_list("pk", flat=True))
    page = client.post(reverse(CHANGELIST), {"action": action, "_selected_action": chosen}, follow=True)
    return [str(message) for message in page.context["messages"]]


@pytest.mark.slow
def test_jobs_are_listed_and_cannot_be_changed(
    admin_client: Client, consumer: Consumer, django_assert_max_num_queries
) -> None:
    for _ in range(20):
        create(consumer)
    with django_assert_max_num_queries(12):
        assert admin_client.get(reverse(CHANGELIST)).status_code == 200
    job = Job.objects.latest("created_at")
    change = reverse("admin:enrichment_job_change", args=[job.pk])
    assert str(job.pk) in admin_client.get(change).content.decode()
    assert admin_client.post(change, {}).status_code == 403
    assert admin_client.get(reverse("admin:enrichment_job_add")).status_code == 403


@pytest.mark.slow
def test_actions_say_how_many_jobs_they_changed(admin_client: Client, consumer: Consumer) -> None:
    cancel_job(create(consumer).pk)
    create(consumer)
    create(consumer)
    assert act(admin_client, "cancel") == [
        "2 jobs cancelled.",
        "1 job not changed. The job has already been cancelled.",
    ]
    assert act(admin_client, "retry") == ["3 jobs queued again."]
    assert act(admin_client, "retry") == [
        "0 jobs queued again.",
        "3 jobs not changed. The job has not ended yet.",
    ]
    assert set(Job.objects.values_list("state", flat=True)) == {"queued"}
    assert act(admin_client, "pause") == ["3 jobs paused."]
    assert set(Job.objects.values_list("state", flat=True)) == {"paused"}
    assert act(admin_client, "resume") == ["3 jobs resumed."]
    assert set(Job.objects.values_list("state", flat=True)) == {"queued"}
    assert LogEntry.objects.count() == 11


def test_a_job_in_which_nothing_failed_offers_no_retry(
    admin_client: Client, consumer: Consumer, sandbox: Sandbox
) -> None:
    job = create(consumer)
    retry = reverse("admin:enrichment_job_retry_one", args=[job.pk])
    page = reverse("admin:enrichment_job_change", args=[job.pk])
    run_job()
    assert retry not in admin_client.get(page).text
    job.items.filter(position=1).update(state="failed")
    assert retry in admin_client.get(page).text


def test_the_list_shows_what_each_job_has_spent_and_filters_by_kind(
    admin_client: Client, consumer: Consumer, sandbox: Sandbox, django_assert_max_num_queries
) -> None:
    job = create(consumer)
    authors = create_job(
        consumer=consumer, kind=Job.Kind.AUTHORS, wanted={"authors": ["Andy Weir"]}, label="authors.txt"
    )
    for source, calls in ((job.source, 2), (job.source, 1), (authors.source, 4)):
        for _ in range(calls):
            reservation, _, _ = reservations.reserve_and_dispatch(
                consumer="reader",
                operation="test",
                source=source,
                calls=1,
                kind=RequestKind.PAGE,
                method="GET",
                path="/author/x",
            )
            reservations.settle(reservation)
    Job.objects.filter(pk=job.pk).update(
        state="running", runner=job.pk, lease_until=NOON, started_at=NOON, resume_at=None
    )
    with django_assert_max_num_queries(20):
        page = admin_client.get(reverse(CHANGELIST))
    shown = {row.pk: row.spent for row in page.context["cl"].result_list}
    assert (shown[job.pk].calls, shown[job.pk].requests_a_minute) == (3, 3)
    assert shown[authors.pk].calls == 4
    assert "the books of authors: authors.txt" in page.text
    create_job(consumer=consumer, kind=Job.Kind.BIBLIOGRAPHY, wanted={"author_name": "Andy Weir", "source": "desk"})
    create_job(consumer=consumer, kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": known_isbns(1), "source": "shelf 7"})
    named = admin_client.get(reverse(CHANGELIST)).text
    assert "an author&#x27;s books: Andy Weir" in named
    assert "ISBNs: shelf 7" in named
    [only] = admin_client.get(reverse(CHANGELIST), {"kind": "authors"}).context["cl"].result_list
    assert only.pk == authors.pk
    assert admin_client.get(reverse(CHANGELIST), {"q": "authors.t"}).context["cl"].result_count == 1


@pytest.mark.django_db(transaction=True)
def test_a_viewer_cannot_run_the_actions(client: Client, consumer: Consumer, django_user_model) -> None:
    onlooker = django_user_model.objects.create_user("onlooker", is_staff=True)
    onlooker.user_permissions.add(Permission.objects.get(codename="view_job"))
    client.force_login(onlooker)
    job = create(consumer)
    act(client, "cancel")
    job.refresh_from_db()
    assert job.state == "queued"


@pytest.mark.slow
def test_progress_is_refreshed_until_the_job_has_ended(
    admin_client: Client, consumer: Consumer, sandbox: Sandbox
) -> None:
    isbns = [*known_isbns(2), *unknown_isbns(1), "12345"]
    job = create_job(consumer=consumer, kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": isbns})
    change, progress = (reverse(f"admin:enrichment_job_{page}", args=[job.pk]) for page in ("change", "progress"))
    assert f'hx-get="{progress}"' in admin_client.get(change).text
    under_way = admin_client.get(progress)
    assert "0 of 3 ISBNs done (0 %)" in under_way.text
    assert 'hx-trigger="every 2s"' in under_way.text
    assert "HX-Refresh" not in under_way
    run_job()
    ended = admin_client.get(progress)
    assert "3 of 3 ISBNs done (100 %)" in ended.text
    assert "hx-get" not in ended.text
    assert ended["HX-Refresh"] == "true"
    for said in ("fetched and stored", "unknown to ISBNdb", "1 × wrong length"):
        assert said in ended.text


@pytest.mark.slow
def test_a_job_of_pages_shows_its_result(admin_client: Client, consumer: Consumer, sandbox: Sandbox) -> None:
    wanted = {"author_name": "Nobody Known"}
    job = create_job(consumer=consumer, kind=Job.Kind.BIBLIOGRAPHY, wanted=wanted)
    run_job()
    shown = admin_client.get(reverse("admin:enrichment_job_change", args=[job.pk])).text
    assert re.search("pages? done", shown)
    assert "Pages fetched" in shown
    assert "ISBNs by state" not in shown


@pytest.mark.slow
def test_only_operators_cancel_and_retry_a_job_on_its_page(client: Client, consumer: Consumer) -> None:
    job = create(consumer)
    cancel, retry, pause, resume = (
        reverse(f"admin:enrichment_job_{act}_one", args=[job.pk]) for act in ("cancel", "retry", "pause", "resume")
    )
    client.force_login(member("viewers"))
    for address in (cancel, retry, pause, resume):
        assert client.post(address, {"_form_submitted": "True"}).status_code == 403
    client.force_login(member("operators"))
    change = reverse("admin:enrichment_job_change", args=[job.pk])
    for address, other, state in (
        (pause, resume, "paused"),
        (resume, pause, "queued"),
        (cancel, retry, "cancelled"),
        (retry, cancel, "queued"),
    ):
        shown = client.get(change).text
        assert address in shown
        assert other not in shown
        client.get(address)
        answer = client.post(address, {"_form_submitted": "True"}, headers={"HX-Request": "true"})
        assert answer["HX-Redirect"] == change
        job.refresh_from_db()
        assert job.state == state
    assert set(LogEntry.objects.values_list("change_message", flat=True)) == {
        "Paused.",
        "Resumed.",
        "Cancelled.",
        "Queued again.",
    }
    stale = client.post(retry, {"_form_submitted": "True"}, follow=True)  # from a page that was opened before
    assert "The job has not ended yet." in stale.text
    job.refresh_from_db()
    assert job.state == "queued"
    assert client.post(cancel.replace(str(job.pk), "nothing"), {"_form_submitted": "True"}).status_code == 404
