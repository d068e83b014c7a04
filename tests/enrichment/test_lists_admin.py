"""ISBNs pasted or uploaded in the admin: check, cost, and run as a job."""

import csv
import io
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from alexandria.development.sandbox import isbns
from alexandria.development.sandbox.server import Sandbox
from enrichment.defaults import ensure_defaults
from enrichment.isbn.files import read_file
from enrichment.jobs.lists import prune_lists
from enrichment.jobs.workers import run_job
from enrichment.models import Edition, IsbnList, Job
from enrichment.services.bibliographies import enrich_bibliography
from enrichment.services.enrich import enrich_isbns
from harvest.runs import run_cron
from quota.models import Consumer
from tests.enrichment.staff import STAFF_GROUPS, member
from tests.fixtures import NOON, SetClock, a_minute_passes, balance, known_isbns, unknown_isbns

CHECK = "admin:check_isbns"


@pytest.fixture(autouse=True)
def payer(set_clock: SetClock) -> Consumer:
    """The consumer that pays for work started in the admin, as `migrate` creates it."""
    ensure_defaults()
    return Consumer.objects.get(slug="staff")


def give(client: Client, **form: Any) -> Any:
    """Submits ISBNs and returns the page that shows their cost."""
    return client.post(reverse(CHECK), {"isbns": "", **form}, follow=True)


def run(client: Client, checked: Any, on_exhausted: str = "fail") -> Any:
    address = checked.redirect_chain[-1][0]
    return client.post(address, {"on_exhausted": on_exhausted}, follow=True)


@pytest.mark.slow
def test_pasted_isbns_are_checked_priced_and_run_and_each_has_a_result(admin_client: Client, sandbox: Sandbox) -> None:
    fresh, *wanted = known_isbns(4)
    enrich_isbns([fresh], consumer="staff")
    [unknown] = unknown_isbns(1)
    pasted = "\n".join([fresh, *wanted, wanted[0], unknown, "9780441172718", "=1+2"])
    checked = give(admin_client, isbns=pasted, purpose="shelf 7")
    plan = checked.context["plan"]
    given = plan.given
    assert (given.requested, len(given.valid), given.duplicates, len(given.invalid)) == (8, 5, 1, 2)
    assert (plan.fresh, plan.missed, plan.wanted, plan.calls) == (1, 0, 4, 1)
    assert checked.context["allowance"].free == 12_999
    assert "1 × wrong check digit, 1 × not an ISBN" in checked.text
    assert "<td>9780441172719</td>" in checked.text
    assert sandbox.spent == 1  # checking is free

    page = run(admin_client, checked)
    job = Job.objects.get()
    assert page.redirect_chain[-1][0] == reverse("admin:enrichment_job_change", args=[job.pk])
    assert (job.consumer.slug, job.wanted["source"], job.total) == ("staff", "shelf 7", 5)
    assert LogEntry.objects.get().change_message == "Run from the admin: 5 ISBNs."
    run_job()
    assert balance(sandbox) == (2, 2)
    assert Edition.objects.count() == 4

    address = reverse("admin:enrichment_job_items_csv", args=[job.pk])
    rows = list(csv.DictReader(io.StringIO(admin_client.get(address).getvalue().decode("utf-8-sig"))))
    assert [(row["isbn13"], row["state"]) for row in rows] == [
        *[(fresh, "already_fresh"), *((isbn, "enriched") for isbn in wanted), (wanted[0], "duplicate")],
        *[(unknown, "not_found"), ("", "invalid"), ("", "invalid")],
    ]
    assert [row["given"] for row in rows[-2:]] == ["9780441172718", "'=1+2"]
    assert all(row["title"] for row in rows[:4])
    items = reverse("admin:enrichment_job_items", args=[job.pk])
    assert [item.value for item, *_ in admin_client.get(items, {"state": "invalid"}).context["rows"]] == [
        "9780441172718",
        "=1+2",
    ]


@pytest.mark.slow
def test_a_person_sees_the_lists_started_last_with_what_came_and_what_did_not(
    admin_client: Client, client: Client, sandbox: Sandbox
) -> None:
    empty = admin_client.get(reverse("admin:your_lists"))
    assert "You have started no list yet." in empty.text
    [known], [unknown] = known_isbns(1), unknown_isbns(1)
    run(admin_client, give(admin_client, isbns=f"{known}\n{unknown}\n9780441172718\n{known}", purpose="shelf 7"))
    job = Job.objects.get()
    run_job()
    run(admin_client, give(admin_client, isbns=known))

    page = admin_client.get(reverse("admin:your_lists"))
    waiting, done = page.context["lists"]
    assert (done["job"].pk, done["purpose"], done["duplicates"]) == (job.pk, "shelf 7", 1)
    assert (done["came"], done["missing"], done["pending"]) == (1, 2, 0)
    assert (waiting["came"], waiting["missing"], waiting["pending"]) == (0, 0, 1)
    addresses = re.findall(rf'href="([^"]*{job.pk}[^"]*)"', page.text)
    assert addresses[0] == reverse("admin:enrichment_job_change", args=[job.pk])
    books, *_, why = [address.replace("&amp;", "&") for address in addresses if "books" in address or "csv?" in address]
    assert books in admin_client.get(addresses[0]).text
    rows = list(csv.DictReader(io.StringIO(admin_client.get(books).getvalue().decode("utf-8-sig"))))
    assert [row["isbn13"] for row in rows] == [known]
    assert rows[0]["title"]
    assert read_file(admin_client.get(books).getvalue()).values == [known]
    assert read_file(admin_client.get(why).getvalue()).values == [unknown, "9780441172718"]
    rows = list(csv.DictReader(io.StringIO(admin_client.get(why).getvalue().decode("utf-8-sig"))))
    assert [(row["isbn13"], row["state"], row["suggestion"]) for row in rows] == [
        (unknown, "not_found", ""),
        ("", "invalid", "9780441172719"),
    ]

    client.force_login(member("viewers"))
    assert client.get(reverse("admin:your_lists")).context["lists"] == []
    assert client.get(reverse("admin:enrichment_job_books", args=[job.pk, "pdf"])).status_code == 404


@pytest.mark.slow
def test_a_second_click_returns_the_same_job(admin_client: Client) -> None:
    checked = give(admin_client, isbns="\n".join(known_isbns(2)))
    first, again, other = run(admin_client, checked), run(admin_client, checked), run(admin_client, checked, "wait")
    assert first.redirect_chain[-1] == again.redirect_chain[-1] == other.redirect_chain[-1]
    assert Job.objects.count() == 1


@pytest.mark.slow
@pytest.mark.no_cover
def test_a_long_file_and_100_000_pasted_isbns_lose_none(
    admin_client: Client, settings, django_assert_max_num_queries
) -> None:
    many = [isbns.isbn13_at(slot, position) for slot in range(7000, 7100) for position in range(1000)]
    rows = [f"Title;{isbn}" for isbn in many[:10_000]]
    file = SimpleUploadedFile("isbns.csv", "\n".join(rows).encode("utf-16"))
    checked = give(admin_client, file=file)
    assert checked.context["plan"].calls == 10
    run(admin_client, checked)
    job = Job.objects.get()
    assert job.items.filter(state="pending").count() == 10_000
    with django_assert_max_num_queries(30):
        page = admin_client.get(reverse("admin:enrichment_job_items", args=[job.pk]), {"after": "9950"})
    assert len(page.context["rows"]) == 50
    pasted = "\n".join(f"{isbn[:3]}-{isbn[3]}-{isbn[4:12]}-{isbn[12]}" for isbn in many)
    assert give(admin_client, isbns=pasted).context["plan"].given.requested == 100_000


def test_errors_are_shown_beside_the_field(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Paste ISBNs, or choose a file" in give(admin_client).text
    assert "There is no ISBN in the file." in give(admin_client, file=SimpleUploadedFile("isbns.txt", b"-\n")).text
    monkeypatch.setattr("enrichment.admin.lists.MAX_JOB_ISBNS", 1)
    assert "A job can have at most 1." in give(admin_client, isbns="9780441172719\n12345").text
    monkeypatch.setattr("enrichment.admin.lists.MAX_FILE_SIZE", 10)
    assert "The file is larger than" in give(admin_client, file=SimpleUploadedFile("isbns.txt", b"9780441172719")).text
    assert not IsbnList.objects.exists()


@pytest.mark.slow
def test_a_cost_above_what_is_left_is_shown_first_and_refused_later(admin_client: Client, payer: Consumer) -> None:
    Consumer.objects.update(cap_per_operation=0)
    checked = give(admin_client, isbns=known_isbns(1)[0])
    assert "Not enough calls are left" in checked.text
    page = run(admin_client, checked)
    assert "The job was not started. 1 call requested, 0 free" in page.text
    payer.delete()
    assert "There is no consumer “staff”" in admin_client.get(checked.redirect_chain[-1][0]).text
    assert not Job.objects.exists()


def test_by_the_isbn_a_list_costs_a_call_for_each_isbn_that_is_not_known(
    admin_client: Client, sandbox: Sandbox, settings
) -> None:
    enrich_isbns(known_isbns(1), consumer="staff")
    settings.ISBNDB_BATCH_PRICE = "isbn"
    checked = give(admin_client, isbns="\n".join(known_isbns(4)))
    assert (checked.context["plan"].calls, checked.context["plan"].requests) == (3, 1)
    assert "3 calls in 1 request<" in checked.text


@pytest.mark.slow
def test_fresh_editions_can_be_refreshed_from_the_list_and_from_their_page(
    admin_client: Client, sandbox: Sandbox
) -> None:
    known = known_isbns(3)
    enrich_isbns(known, consumer="staff")
    a_minute_passes()
    chosen = {"action": "refresh", "_selected_action": known[:2]}
    checked = admin_client.post(reverse("admin:enrichment_edition_changelist"), chosen, follow=True)
    assert (checked.context["plan"].wanted, checked.context["plan"].calls) == (2, 1)
    run(admin_client, checked)
    dialog = reverse("admin:enrichment_edition_refresh_one", args=[known[2]])
    assert re.search(r"1 call in 1 request\s*<", admin_client.get(dialog).text)
    assert Job.objects.count() == 1  # opening the dialog spends nothing
    answer = admin_client.post(dialog, {"_form_submitted": "True"}, headers={"HX-Request": "true"})
    latest = Job.objects.latest("created_at")
    assert answer["HX-Redirect"] == reverse("admin:enrichment_job_change", args=[latest.pk])
    while Job.objects.filter(state="queued").exists():
        run_job()
    assert balance(sandbox) == (3, 3)
    assert LogEntry.objects.filter(change_message__contains="all requested again").count() == 2


@pytest.mark.slow
def test_the_cost_of_a_refresh_is_shown_by_the_plan_and_in_batches(
    admin_client: Client, sandbox: Sandbox, settings
) -> None:
    enrich_bibliography("Ada Brandvold", consumer="staff")
    pasted = "\n".join([*Edition.objects.values_list("pk", flat=True), *known_isbns(1)])
    assert "No author listing is cheaper than batches." in give(admin_client, isbns=pasted, refresh="on").text
    settings.ISBNDB_BATCH_PRICE = "isbn"
    checked = give(admin_client, isbns=pasted, refresh="on")
    assert checked.context["calls"] == 2
    shown = " ".join(checked.text.split())
    assert (
        "1 author listing for 5 editions, and batches for the other 1. In batches alone it would be 6 calls." in shown
    )
    assert "author listing" not in give(admin_client, isbns=pasted).text


@pytest.mark.parametrize("group", STAFF_GROUPS)
@pytest.mark.slow
def test_viewers_check_and_operators_run(client: Client, group: str) -> None:
    client.force_login(member(group))
    checked = give(client, isbns=known_isbns(1)[0])
    assert checked.context["plan"].calls == 1
    page = run(client, checked)
    assert (page.status_code, Job.objects.count()) == ((403, 0) if group == "viewers" else (200, 1))
    again = run(client, give(client, isbns=known_isbns(1)[0], refresh="on"))
    one = client.post(reverse("admin:enrichment_edition_refresh_one", args=["9780441172719"]), {"_form_submitted": "1"})
    assert (again.status_code, one.status_code) == ((403, 403) if group == "viewers" else (200, 404))


def test_a_user_without_the_permission_to_view_jobs_cannot_check(client: Client, django_user_model) -> None:
    client.force_login(django_user_model.objects.create_user("nobody", is_staff=True))
    assert client.get(reverse(CHECK)).status_code == 403


@pytest.mark.slow
def test_lists_are_deleted_the_next_day(admin_client: Client) -> None:
    checked = give(admin_client, isbns=known_isbns(1)[0])
    assert prune_lists(before=IsbnList.objects.get().created_at.date()) == 0
    IsbnList.objects.update(created_at=NOON.replace(year=2020))
    run_cron("prune-journal")
    assert not IsbnList.objects.exists()
    assert admin_client.get(checked.redirect_chain[-1][0]).status_code == 404
