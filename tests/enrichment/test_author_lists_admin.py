"""Authors pasted or uploaded in the admin: check, cost, start as a job, and the pages of that job."""

import csv
import io
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from enrichment.jobs.lists import prune_lists
from enrichment.models import AuthorList, Job, JobAuthor
from harvest.defaults import ensure_defaults
from quota.models import Consumer
from tests.enrichment.staff import STAFF_GROUPS, member
from tests.fixtures import SetClock

NEW = "admin:bulk_harvest"
PASTED = "Ada Brandvold\nBrandvold, Ada\n9780441172719\nAndy Weir\n\nNobody Known"


@pytest.fixture(autouse=True)
def payer(set_clock: SetClock) -> Consumer:
    """The consumer that pays for bulk harvests, as `migrate` creates it."""
    ensure_defaults()
    return Consumer.objects.get(slug="bulk-author")


def give(client: Client, **form: Any) -> Any:
    """Submits names and returns the page that shows their cost."""
    return client.post(reverse(NEW), {"authors": "", "max_pages": 3, **form}, follow=True)


def start(client: Client, shown: Any, **form: Any) -> Any:
    return client.post(shown.redirect_chain[-1][0], {"on_exhausted": "wait", **form}, follow=True)


def test_pasted_names_are_shown_with_their_cost_and_started_as_a_job(admin_client: Client) -> None:
    shown = give(admin_client, authors=PASTED)
    plan = shown.context["plan"]
    assert plan.names.names == ["Ada Brandvold", "Andy Weir", "Nobody Known"]
    assert (plan.calls_at_least, plan.calls_at_most, plan.names.duplicates) == (3, 9, 1)
    for said in ("3 calls", "9 calls", "bulk-author", "9780441172719", "Ada Brandvold; Andy Weir; Nobody Known"):
        assert said in shown.text
    assert not Job.objects.exists()

    page = start(admin_client, shown)
    job = Job.objects.get()
    assert page.redirect_chain[-1][0] == reverse("admin:enrichment_job_change", args=[job.pk])
    assert (job.kind, job.consumer.slug, job.label, job.on_exhausted) == (
        "authors",
        "bulk-author",
        "pasted in the admin",
        "wait",
    )
    assert job.wanted["max_pages"] == 3
    assert job.wanted["skip_existing"]
    assert list(job.authors.values_list("name", flat=True)) == plan.names.names
    assert "0 of 3 authors done (0 %)" in page.text
    assert LogEntry.objects.get().change_message == "Bulk harvest started from the admin: 3 authors."
    assert start(admin_client, shown).redirect_chain[-1] == page.redirect_chain[-1], "a second click"
    assert Job.objects.count() == 1


def test_the_export_of_another_program_works_as_a_file(admin_client: Client) -> None:
    table = "Title;Author;ISBN\nDune;Frank Herbert;9780441172719\nEmma;Jane Austen;9780141439587\n"
    shown = give(admin_client, file=SimpleUploadedFile("shelf.csv", table.encode("utf-16")), refresh="on")
    assert shown.context["plan"].names.names == ["Frank Herbert", "Jane Austen"]
    start(admin_client, shown)
    job = Job.objects.get()
    assert (job.label, job.wanted["skip_existing"]) == ("shelf.csv", False)


def test_what_cannot_be_read_is_said_in_the_form(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Paste names, or choose a file with names." in give(admin_client).text
    assert "The list has no author name in it." in give(admin_client, authors="12345").text
    both = give(admin_client, authors="Andy Weir", file=SimpleUploadedFile("a.txt", b"Jane Austen"))
    assert "Not both." in both.text
    monkeypatch.setattr("enrichment.admin.author_lists.MAX_AUTHORS", 1)
    assert "The list has more than 1 author." in give(admin_client, authors="Andy Weir\nX Y").text
    assert "less than or equal to 10" in give(admin_client, authors="Andy Weir", max_pages=11).text
    monkeypatch.setattr("enrichment.admin.lists.MAX_FILE_SIZE", 10)
    large = give(admin_client, file=SimpleUploadedFile("a.txt", b"Frank Herbert"))
    assert "The file is larger than" in large.text
    assert not AuthorList.objects.exists()


def test_a_list_that_a_job_has_finished_is_started_again_only_on_purpose(admin_client: Client) -> None:
    start(admin_client, give(admin_client, authors=PASTED))
    first = Job.objects.get()
    under_way = give(admin_client, authors=PASTED)
    assert "A job for this list has not ended: it is queued." in under_way.text
    assert "Start the harvest" not in under_way.text
    assert "A job of the same list is queued" in start(admin_client, under_way, again="on").text
    Job.objects.update(state="succeeded", resume_at=None, ended_at=first.created_at, done=3)
    finished = give(admin_client, authors=PASTED)
    assert f"This list was finished on {first.created_at:%Y-%m-%d %H:%M} UTC." in finished.text
    assert "Switch this on to start the list again." in start(admin_client, finished).text
    assert Job.objects.count() == 1
    start(admin_client, finished, again="on")
    assert Job.objects.count() == 2


def test_a_refusal_is_shown_and_no_job_is_started(admin_client: Client, settings, payer: Consumer) -> None:
    shown = give(admin_client, authors=PASTED)
    settings.MAX_JOB_ITEMS_PER_CONSUMER = 2
    page = start(admin_client, shown)
    assert "The job was not started." in page.text
    assert "MAX_JOB_ITEMS_PER_CONSUMER" in page.text
    payer.delete()
    assert "There is no consumer “bulk-author”." in admin_client.get(shown.redirect_chain[-1][0]).text
    assert not Job.objects.exists()


@pytest.mark.parametrize("group", STAFF_GROUPS)
def test_viewers_see_the_cost_and_operators_start(client: Client, group: str) -> None:
    client.force_login(member(group))
    shown = give(client, authors=PASTED)
    assert shown.context["plan"].calls_at_least == 3
    page = start(client, shown)
    assert (page.status_code, Job.objects.count()) == ((403, 0) if group == "viewers" else (200, 1))


def test_to_update_all_books_needs_the_permission_to_refresh(client: Client, django_user_model) -> None:
    operator = member("operators")
    client.force_login(operator)
    shown = give(client, authors=PASTED, refresh="on")
    assert shown.context["may_run"]
    for group in operator.groups.all():
        group.permissions.remove(*group.permissions.filter(codename="refresh_edition"))
    shown = give(client, authors=PASTED, refresh="on")
    assert not shown.context["may_run"]
    assert start(client, shown).status_code == 403
    assert start(client, give(client, authors=PASTED)).status_code == 200
    assert Job.objects.count() == 1


def test_a_user_without_the_permission_to_view_jobs_sees_nothing(client: Client, django_user_model) -> None:
    client.force_login(django_user_model.objects.create_user("nobody", is_staff=True))
    assert client.get(reverse(NEW)).status_code == 403


def test_the_page_of_a_job_shows_the_books_of_its_authors_and_each_author(
    admin_client: Client, django_assert_max_num_queries
) -> None:
    start(admin_client, give(admin_client, authors=PASTED))
    job = Job.objects.get()
    figures = {"found": 15, "new": 1, "changed": 2, "unchanged": 3, "already_fresh": 4, "failed": 5}
    JobAuthor.objects.filter(position=2).update(state="cut", pages=2, calls=3, reason="=max_pages", **figures)
    shown = admin_client.get(reverse("admin:enrichment_job_progress", args=[job.pk]))
    assert shown.context["figures"] == [
        ("Books found", 15),
        ("New", 1),
        ("Changed", 2),
        ("Unchanged", 3),
        ("Already fresh", 4),
        ("Failed", 5),
    ]
    page = reverse("admin:enrichment_job_authors", args=[job.pk])
    assert f"{page}?state=cut" in shown.text
    with django_assert_max_num_queries(8):
        listed = admin_client.get(page)
    assert [author.name for author in listed.context["rows"]] == ["Ada Brandvold", "Andy Weir", "Nobody Known"]
    [cut] = admin_client.get(page, {"state": "cut"}).context["rows"]
    assert (cut.name, cut.found) == ("Andy Weir", 15)
    rows = csv.DictReader(
        io.StringIO(
            admin_client.get(reverse("admin:enrichment_job_authors_csv", args=[job.pk])).getvalue().decode("utf-8-sig")
        )
    )
    [row] = [row for row in rows if row["state"] == "cut"]
    assert (row["name"], row["already_fresh"], row["reason"]) == ("Andy Weir", "4", "'=max_pages")


def test_lists_are_deleted_the_next_day(admin_client: Client) -> None:
    shown = give(admin_client, authors=PASTED)
    kept = AuthorList.objects.get()
    assert prune_lists(before=kept.created_at.date()) == 0
    AuthorList.objects.update(created_at=kept.created_at.replace(year=2020))
    assert prune_lists(before=kept.created_at.date()) == 1
    assert admin_client.get(shown.redirect_chain[-1][0]).status_code == 404
