"""manage.py bulk_author_harvest on our own database: what it fetches and spends, how it ends and continues."""

import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

from alexandria.common.heartbeats import LEASE
from alexandria.development.sandbox.server import Sandbox
from enrichment.gateway.asking import MAX_UNDER_WAY
from enrichment.jobs import processes as job_processes
from enrichment.models import Author, Edition, Job, JobAuthor
from quota.models import Call, Consumer, Switches
from quota.services import reservations
from tests import processes
from tests.fixtures import NOON, SetClock, balance, database_moved
from tests.harvest.bulk import COMMAND, a_list, harvest, pages_asked, start
from tests.lists import OUR_FOLDER, folder_of, lists
from tests.processes import wait_until

SHORT = ["Adam Silvera", "Nora Roberts", "Colleen Hoover", "Stephen King", "Abby Jimenez", "Freida McFadden"]

pytestmark = pytest.mark.usefixtures("bulk_author")


@pytest.fixture
def set_both_clocks(sandbox: Sandbox, set_clock: SetClock) -> Callable[[datetime], None]:
    def set_both(moment: datetime) -> None:
        sandbox.set_clock(offset_seconds=set_clock(moment).total_seconds())

    return set_both


def free_calls(settings, calls: int) -> None:
    """Sets limits of the day that leave this many calls to the bulk harvest."""
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 2000 + calls + 10, 10


@pytest.mark.slow
@pytest.mark.usefixtures("plenty_left")
def test_every_kind_of_author_is_harvested_page_by_page_and_every_call_is_reported(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.add_fault("status", status=404, path="/author/Nobody", body={"message": "Not found"})
    listed = a_list(tmp_path, "Agatha Christie", "Nobody", "adam silvera", "R.L. Stine", "Silvera, Adam", "12")

    ended = harvest(listed, "--max-pages", "2")

    assert ended.code == 0, ended.message
    authors = {each["name"]: each for each in sorted(ended.named("author"), key=lambda each: each["position"])}
    assert [(name, each["state"], each["books"], each["calls"]) for name, each in authors.items()] == [
        ("Agatha Christie", "done", 1432, 2),
        ("Nobody", "unknown", 0, 1),
        ("adam silvera", "done", 9, 1),
        ("R.L. Stine", "cut", 2000, 2),
    ]
    assert [each["text"] for each in ended.named("note")] == [
        "1 duplicate name ignored.",
        "Line 6 is not a name (no letter): '12'",
    ]
    figures = {"authors": 4, "done": 2, "unknown": 1, "cut": 1, "failed": 0, "pending": 0, "calls": 6, "books": 3441}
    assert {name: ended.summary[name] for name in figures} == figures
    assert ended.named("quota")[0]["free"] == 11_000
    assert Edition.objects.count() == ended.summary["new"]
    for figures in (ended.summary, *authors.values()):
        became = ("new", "changed", "unchanged", "already_fresh", "books_failed")
        assert figures["books"] == sum(figures[name] for name in became)
    made = Job.objects.get()
    assert (made.state, made.label, made.stopped_reason, made.runner) == ("succeeded", "authors.txt", "", None)
    assert set(Call.objects.values_list("consumer__slug", "reservation__source")) == {("bulk-author", f"job:{made.pk}")}
    assert balance(sandbox) == (6, 6)

    more = harvest(listed, "--resume", "--max-pages", "3")
    assert more.code == 0
    assert [(each["name"], each["state"], each["calls"]) for each in more.named("author")] == [
        ("R.L. Stine", "done", 3)
    ]
    assert pages_asked(sandbox)[6:] == [("R.L. Stine", 3)]
    assert harvest(listed, "--resume").named("author") == []
    assert balance(sandbox) == (7, 7)


@pytest.mark.parametrize("path", lists("authors.csv"), ids=folder_of)
@pytest.mark.slow
def test_a_long_list_takes_two_days_of_a_small_quota_and_no_page_is_paid_twice(
    path: Path, sandbox: Sandbox, set_both_clocks: Callable[[datetime], None], settings
) -> None:
    authors, calls = (106, 104) if path.parent == OUR_FOLDER else (197, 150)
    free_calls(settings, calls)
    first = harvest(path)
    assert first.code == 2
    assert "must leave calls free for others" in first.message
    assert first.summary["pending"] > 0
    used = [each["used"] for each in first.named("quota")]
    assert used[0] == 0
    assert 100 <= used[1] <= calls
    assert Job.objects.get().state == "paused"
    assert balance(sandbox) == (calls, calls)
    again = harvest(path, "--resume")
    assert (again.code, again.named("author")) == (2, [])

    set_both_clocks(NOON + timedelta(days=1))
    second = harvest(path, "--resume")
    assert second.code == 0, second.message
    assert (second.summary["done"], second.summary["pending"]) == (authors, 0)
    asked = pages_asked(sandbox)
    assert len(asked) == len(set(asked)) == second.summary["calls"]
    assert balance(sandbox) == (len(asked) - calls, len(asked) - calls)


@pytest.mark.slow
def test_with_wait_it_sleeps_until_after_midnight_and_continues(
    sandbox: Sandbox, set_both_clocks: Callable[[datetime], None], tmp_path: Path
) -> None:
    listed = a_list(tmp_path, *SHORT[:3])
    set_both_clocks(datetime(2026, 5, 5, 23, 59, 50, tzinfo=UTC))
    reservations.increment(11_000 - 2)
    ended = harvest(listed, "--wait")
    assert ended.code == 0, ended.message
    assert ended.named("waiting")[-1]["until"].startswith("2026-05-06T00:00:0")
    assert ended.summary["done"] == 3
    assert sorted(pages_asked(sandbox)) == sorted((name, 1) for name in SHORT[:3])
    assert list(Call.objects.exclude(outcome="external").values_list("outcome", flat=True)) == ["ok"] * 3


CHRISTIE = [("Agatha Christie", 1), ("Agatha Christie", 2)]


@pytest.mark.slow
def test_kill_9_loses_only_the_pages_under_way(sandbox: Sandbox, admin_client: Client, tmp_path: Path) -> None:
    listed = a_list(tmp_path, "Agatha Christie", *SHORT[:2])
    sandbox.add_fault("latency", seconds=60, path="/author/Nora", times=1)
    with start(listed, environment=processes.environment()) as killed:
        wait_until(lambda: len(sandbox.requests) == 4, killed)
        wait_until(lambda: JobAuthor.objects.filter(state="done").count() == 2, killed)
        second = harvest(listed, "--resume")
        assert second.code == 4
        assert f"Process {killed.pid} on " in second.message
        assert harvest(listed, "--restart").code == harvest(listed).code == 4
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    assert Job.objects.get().state == "running"

    assert "has stopped" in (without := harvest(listed)).message
    assert without.code == 1
    ended = harvest(listed, "--resume")
    assert ended.code == 0, ended.message
    asked = sorted(pages_asked(sandbox))
    assert asked == [("Adam Silvera", 1), *CHRISTIE, ("Nora Roberts", 1), ("Nora Roberts", 1)]
    assert balance(sandbox)[0] == ended.summary["calls"] == 5


@pytest.mark.slow
def test_ctrl_c_ends_it_after_what_is_under_way(sandbox: Sandbox, tmp_path: Path) -> None:
    listed = a_list(tmp_path, "Agatha Christie", *SHORT[:2])
    sandbox.add_fault("latency", seconds=5, path="/author/Agatha", times=1)
    with start(listed, environment=processes.environment()) as stopped:
        wait_until(lambda: sandbox.requests, stopped)
        stopped.send_signal(signal.SIGINT)
        out, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, errors
    assert "A second signal stops at once" in errors
    assert "ended: Interrupted" in out
    assert JobAuthor.objects.values_list("state", "pages", "found", "calls").get(position=1) == ("pending", 1, 1000, 1)
    assert harvest("--resume").code == 0
    assert sorted(pages_asked(sandbox)) == [("Adam Silvera", 1), *CHRISTIE, ("Nora Roberts", 1)]
    assert balance(sandbox) == (4, 4)


@pytest.mark.slow
def test_ctrl_c_ends_it_while_it_waits_for_the_next_day(sandbox: Sandbox, tmp_path: Path) -> None:
    reservations.increment(11_000)
    with start(a_list(tmp_path, SHORT[0]), "--wait", environment=processes.environment()) as waiting:
        assert waiting.stdout is not None
        while "Waiting until " not in waiting.stdout.readline():
            assert waiting.poll() is None
        waiting.send_signal(signal.SIGINT)
        out, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == 130, errors
    assert "ended: Interrupted." in out
    assert Job.objects.get().state == "paused"


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once_and_releases_its_calls(sandbox: Sandbox, tmp_path: Path) -> None:
    listed = a_list(tmp_path, *SHORT[:2])
    sandbox.add_fault("latency", seconds=60, times=2)
    with start(listed, environment=processes.environment()) as stopped:
        wait_until(lambda: len(sandbox.requests) == 2, stopped)  # one that is not sent yet would stay spent
        stopped.send_signal(signal.SIGTERM)
        assert stopped.stderr is not None
        while "A second signal" not in stopped.stderr.readline():
            assert stopped.poll() is None
        stopped.send_signal(signal.SIGTERM)
        stopped.communicate(timeout=30)
    assert stopped.returncode == 130
    assert balance(sandbox) == (2, 2)
    sandbox.clear_faults()
    resumed = harvest("--resume")
    assert (resumed.summary["done"], resumed.summary["calls"]) == (2, 4)
    assert balance(sandbox) == (4, 4)


@pytest.mark.slow
def test_failed_authors_are_reported_with_their_reason_and_resume_tries_them_again(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    listed = a_list(tmp_path, *SHORT[:3])
    sandbox.add_fault("status", status=503, path="/author/Nora")
    ended = harvest(listed)
    assert ended.code == 3
    assert ended.summary["failures"] == {"isbndb_failed": 1}
    assert ended.summary["failed_authors"] == ["Nora Roberts"]
    [failed] = [each for each in ended.named("author") if each["name"] == "Nora Roberts"]
    assert (failed["state"], failed["reason"], failed["pages"]) == ("failed", "isbndb_failed", 0)
    assert "503" in failed["detail"]
    assert ended.summary["calls"] == balance(sandbox)[0] == failed["calls"] + 2

    sandbox.clear_faults()
    again = harvest(listed, "--resume")
    assert (again.code, again.summary["done"], again.summary["failed"]) == (0, 3, 0)
    assert balance(sandbox)[0] == ended.summary["calls"] + 1


def test_when_isbndb_fails_for_every_author_it_stops_before_it_wastes_the_quota(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.add_fault("garbage")
    ended = harvest(a_list(tmp_path, *(f"Somebody Else{number}" for number in range(60))))
    assert ended.code == 1
    assert "5 authors failed in a row. The last failure: " in ended.message
    assert 5 <= ended.summary["failed"] <= 5 + MAX_UNDER_WAY, "what was under way has come in"
    assert ended.summary["failed"] + ended.summary["pending"] == 60
    assert harvest("--resume", "--limit", "2").code == 3


@pytest.mark.slow
def test_authors_that_always_fail_do_not_block_the_others_on_resume(sandbox: Sandbox, tmp_path: Path) -> None:
    bad = [f"Bad {word}" for word in ("One", "Two", "Three", "Four", "Five", "Six")]
    sandbox.add_fault("status", status=500, path="/author/Bad", body={"message": "Oops"})
    mixed = [name for pair in zip(SHORT, bad, strict=True) for name in pair]
    listed = a_list(tmp_path, *mixed, "Andy Weir")
    assert harvest(listed, "--limit", "12").code == 3

    plan = harvest("--resume", "--dry-run").events[0]
    assert (plan["to_do"], plan["authors"]) == (7, 13)
    resumed = harvest("--resume")
    assert resumed.code == 1  # five in a row fail again, but only at the end
    assert resumed.summary["done"] == 7
    calls = dict(JobAuthor.objects.exclude(state="done").values_list("name", "calls"))
    tried = harvest("--resume", "--limit", "2").named("author")
    assert sorted(calls[each["name"]] for each in tried) == sorted(calls.values())[:2]
    sandbox.clear_faults()
    assert (harvest("--resume").code, JobAuthor.objects.exclude(reason="").count()) == (0, 0)


def test_a_harvest_that_cannot_continue_says_why_and_can_be_resumed(
    sandbox: Sandbox, bulk_author: Consumer, tmp_path: Path
) -> None:
    listed = a_list(tmp_path, *SHORT[:1])
    Switches.objects.update_or_create(pk=1, defaults={"harvest_enabled": False})
    off = harvest(listed)
    assert (off.code, off.summary["pending"]) == (1, 1)
    assert "Harvesting is switched off" in off.message
    Switches.objects.update(harvest_enabled=True)
    Consumer.objects.filter(pk=bulk_author.pk).update(active=False)
    assert "switched off" in harvest("--resume").message
    Job.objects.all().delete()
    Consumer.objects.filter(pk=bulk_author.pk).delete()
    missing = harvest("--resume")
    assert missing.code == 1
    assert "manage.py migrate" in missing.message
    with database_moved(port=1):
        away = harvest(listed, "--resume")
    assert away.code == 1
    assert "does not answer" in away.message
    assert sandbox.requests == []


@pytest.mark.slow
def test_restart_cancels_a_stopped_harvest_and_limit_ends_early(sandbox: Sandbox, tmp_path: Path) -> None:
    listed = a_list(tmp_path, *SHORT[:3])
    part = harvest(listed, "--limit", "1")
    assert (part.code, part.summary["ended"]) == (0, "--limit: 2 authors left; --resume continues.")
    refused = harvest(listed)
    assert (refused.code, refused.events) == (1, [])
    assert "--resume continues it, --restart starts again from the beginning" in refused.message
    assert harvest(listed, "--restart").summary["done"] == 3
    assert list(Job.objects.order_by("created_at").values_list("state", flat=True)) == ["cancelled", "succeeded"]
    assert harvest("--resume").code == 1
    assert balance(sandbox) == (4, 4)


def test_a_finished_list_says_when_and_what_asking_again_costs(sandbox: Sandbox, tmp_path: Path) -> None:
    listed = a_list(tmp_path, *SHORT[:2])
    assert harvest(listed).code == 0
    for way in ([], ["--restart"]):
        refused = harvest(listed, *way, "--max-pages", "3")
        assert (refused.code, refused.events) == (1, [])
        when = Job.objects.values_list("ended_at", flat=True).get()
        assert f"This list was finished on {when:%Y-%m-%d %H:%M} UTC" in refused.message
        assert "To ask again costs 2 to 6 calls. --again does it." in refused.message
    resumed = harvest(listed, "--resume")
    assert (resumed.code, resumed.named("author")) == (0, [])
    assert "Nothing is left to do: this list is finished." in resumed.named("note")[0]["text"]
    assert balance(sandbox) == (2, 2)
    again = harvest(listed, "--again")
    assert (again.code, again.summary["calls"], again.summary["new"]) == (0, 2, 0)
    assert again.summary["already_fresh"] == again.summary["books"] > 0
    assert balance(sandbox) == (4, 4)


def held(job: Job, **who: object) -> None:
    """Records that a process in another container on this machine works on the job."""
    running: dict[str, object] = {"state": "running", "ended_at": None, "runner": uuid.uuid4(), "attended": True}
    running |= {"pid": 999_999, "lease_until": datetime.now(UTC) + LEASE, "host": f"{socket.gethostname()} (x-1)"}
    Job.objects.filter(pk=job.pk).update(**running | who)


def test_a_harvest_held_by_another_machine_is_free_when_its_lease_is_over(sandbox: Sandbox, tmp_path: Path) -> None:
    listed = a_list(tmp_path, *SHORT[:2])
    assert harvest(listed, "--limit", "1").code == 0
    held(Job.objects.get(), host="elsewhere")
    refused = harvest(listed, "--resume")
    assert (refused.code, "on elsewhere works on" in refused.message) == (4, True)
    held(Job.objects.get(), host="elsewhere", lease_until=datetime(2026, 5, 5, tzinfo=UTC))
    assert harvest(listed, "--resume").code == 0


def test_a_process_in_another_container_does_not_count_as_dead(sandbox: Sandbox, tmp_path: Path) -> None:
    listed = a_list(tmp_path, *SHORT[:2])
    assert harvest(listed, "--limit", "1").code == 0
    made = Job.objects.get()
    held(made)
    assert harvest(listed, "--resume").code == harvest("--resume").code == harvest(listed, "--restart").code == 4
    held(made, host=job_processes._machine())
    assert harvest(listed, "--dry-run", "--resume").code == 0
    made.refresh_from_db()
    assert (made.state, made.stopped_reason) == ("paused", "process_ended")
    assert harvest(listed, "--resume").code == 0


@pytest.mark.slow
def test_resume_without_a_list_continues_what_stopped_last_and_nobody_holds(sandbox: Sandbox) -> None:
    one = [part for name in SHORT[:4] for part in ("--author", name)]
    two = [part for name in SHORT[4:] for part in ("--author", name)]
    for arguments in (one, two, [*one, "--resume"]):
        assert harvest(*arguments, "--limit", "1").code == 0
    assert [each["name"] for each in harvest("--resume", "--limit", "1").named("author")] == [SHORT[2]]

    held(Job.objects.earliest("created_at"))
    assert [each["name"] for each in harvest("--resume").named("author")] == [SHORT[5]]


@pytest.mark.slow
def test_when_the_reader_of_its_output_is_gone_it_stops_with_its_checkpoint(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.add_fault("latency", seconds=0.3)
    with start(a_list(tmp_path, *SHORT), environment=processes.environment()) as piped:
        assert piped.stdout is not None
        assert piped.stdout.readline().startswith("Quota: ")
        piped.stdout.close()
        assert piped.stderr is not None
        errors = piped.stderr.read()
    assert piped.returncode == 141, errors
    assert "The reader of the output is gone." in errors
    assert "Traceback" not in errors
    assert "BrokenPipeError" not in errors
    assert Job.objects.get().state == "paused"
    assert harvest("--resume").summary["done"] == len(SHORT)
    assert balance(sandbox) == (len(SHORT), len(SHORT))


def test_a_dry_run_shows_the_calls_and_days_and_spends_nothing(sandbox: Sandbox, settings, tmp_path: Path) -> None:
    free_calls(settings, 7)
    sandbox.add_fault("status", status=404, path="/author/Nobody", body={})
    assert harvest("--author", "Nobody").code == 0
    listed = a_list(tmp_path, "Nobody", *SHORT[:2])
    out = io.StringIO()
    call_command("bulk_author_harvest", str(listed), "--dry-run", "--max-pages", "5", stdout=out)
    lines = out.getvalue().splitlines()
    assert lines[0] == "Would harvest 3 of 3 authors of authors.txt: Nobody, Adam Silvera, Nora Roberts"
    assert lines[1].startswith("Calls: 2 to 15, ")
    assert re.fullmatch(r"End: between 2026-05-05 12:0\d UTC and 2026-05-07 00:00 UTC, if nobody else .*", lines[2])
    assert lines[3].startswith("Quota: 2 of 2,007 calls used, 0 reserved, 5 free for this harvest; ")

    assert harvest(listed, "--limit", "1", "--max-pages", "1").code == 0
    ended = harvest(listed, "--dry-run", "--resume")
    assert ended.events[0]["to_do"] == 2
    assert (ended.events[0]["calls_at_least"], ended.events[0]["calls_at_most"]) == (2, 2)
    Consumer.objects.update(daily_budget=0)
    assert harvest(listed, "--dry-run", "--resume").events[0]["ends_at_most"] is None
    assert Job.objects.count() == 2
    assert balance(sandbox) == (2, 2), "one for the author, and one to ask ISBNdb's counter what the 404 means"


def test_a_dry_run_shows_everything_that_the_run_refuses(sandbox: Sandbox, tmp_path: Path) -> None:
    bad = [f"{number}" for number in range(12)]
    listed = a_list(tmp_path, "writer;born", *SHORT[:2], SHORT[0], "Barnes & Noble;1873", *bad)
    plan = harvest(listed, "--dry-run").events[0]
    assert (plan["to_do"], len(plan["refused"])) == (2, 13)
    assert plan["refused"][0] == {
        "line": 5, "text": "Barnes & Noble", "reason": "one author or up to 2: write one on each line"
    }  # fmt: skip
    assert plan["notes"][:2] == [
        "No column is called author: the first one is taken, 'writer'.", "1 duplicate name ignored.",
    ]  # fmt: skip
    out = io.StringIO()
    call_command("bulk_author_harvest", str(listed), "--dry-run", stdout=out)
    assert out.getvalue().splitlines()[-1] == "Line 17 is not a name (no letter): '11'"


def test_check_quota_says_by_its_exit_code_whether_a_call_is_free(sandbox: Sandbox, settings) -> None:
    assert harvest("--check-quota").code == 0
    Consumer.objects.filter(slug="bulk-author").update(daily_budget=0)
    ended = harvest("--check-quota")
    assert (ended.code, ended.events[0]["free"], ended.events[0]["remaining"]) == (2, 0, 13_000)
    assert "Its daily budget is 0." in ended.message
    Consumer.objects.filter(slug="bulk-author").update(active=False, daily_budget=None)
    assert "is switched off" in harvest("--check-quota").message
    plan = harvest("--dry-run", "--author", "x").events[0]["quota"]
    assert (plan["free"], "is switched off" in plan["why_none"]) == (0, True)
    Consumer.objects.filter(slug="bulk-author").update(active=True)
    Switches.objects.update_or_create(pk=1, defaults={"harvest_enabled": False})
    assert harvest("--check-quota").message.endswith("Harvesting is switched off: crons and bulk work get no calls.")
    assert sandbox.requests == []


def test_without_a_key_for_isbndb_nothing_starts(settings) -> None:
    settings.ISBNDB_API_KEY = ""
    ended = harvest("--author", "x")
    assert (ended.code, "ISBNDB_API_KEY is not set" in ended.message) == (1, True)
    assert not Job.objects.exists()


@pytest.mark.slow
def test_tiers_are_stored_authors_ranked_by_their_editions(sandbox: Sandbox, tmp_path: Path) -> None:
    assert harvest("--tier", "top-100").message == "The list has no author name in it."
    assert harvest("--author", SHORT[0], "--author", SHORT[2]).code == 0
    ranked = sorted(Author.objects.all(), key=lambda author: (-author.editions.count(), author.name_key))
    ended = harvest("--tier", "top-100", "--dry-run", "--json")
    assert ended.events[0]["authors"] == min(100, len(ranked))
    limited = harvest("--tier", "top-100", "--limit", "2")
    assert {each["name"] for each in limited.named("author")} == {author.name for author in ranked[:2]}
    resumed = harvest("--tier", "top-100", "--resume", "--limit", "1")
    assert resumed.named("author")[0]["position"] == 3
    assert harvest("--tier", "5000-20000").code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No authors given"),
        (["--tier", "top-7"], "invalid choice"),
        (["--max-pages", "11", "--author", "x"], "invalid choice"),
        (["--limit", "0", "--author", "x"], "--limit"),
        (["/nowhere/authors.csv"], "No such file"),
        (["--author", "123"], "The list has no author name in it"),
        (["--author", "x", "--api-key", "y"], "needs --server"),
        (["--author", "x", "--again", "--resume"], "not allowed with"),
        (["--resume"], "There is no stopped harvest in the database"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(arguments: list[str], message: str, settings) -> None:
    settings.ISBNDB_API_KEY = "a-key"
    ended = harvest(*arguments)
    assert (ended.code, ended.events) == (1, [])
    assert message in ended.message


@pytest.mark.slow
def test_as_a_process_it_reads_standard_input_and_prints_plain_lines(sandbox: Sandbox) -> None:
    ended = subprocess.run(
        [*COMMAND, "-"], input="author\nAdam Silvera\nNora Roberts\n", text=True, capture_output=True, timeout=60,
        env=processes.environment(), check=True,
    )  # fmt: skip
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("Quota: 0 of 13,000 calls used")
    assert "Adam Silvera: 9 books (9 new), 1 call" in [line.partition("/2 ")[2] for line in lines[1:3]]
    assert lines[3].startswith("harvest: standard input (job ")
    assert [line for line in lines if line.startswith(("  done", "calls"))] == ["  done: 2", "calls: 2"]
    wrong = subprocess.run([*COMMAND, "--tier", "x"], capture_output=True, timeout=60, check=False)
    assert wrong.returncode == 1
    helped = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "130  interrupted; --resume continues" in helped.stdout


@pytest.mark.slow
def test_on_a_terminal_a_bar_shows_the_rate_and_the_remaining_calls(sandbox: Sandbox) -> None:
    ours, terminal = pty.openpty()
    environment = processes.environment() | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [*COMMAND, "--author", "Adam Silvera"], env=environment, stdout=terminal, stderr=terminal
    ) as shown:
        os.close(terminal)
        text = ""
        try:
            while part := os.read(ours, 65536).decode(errors="replace"):
                text += part
        except OSError:  # raised at the end of a terminal
            pass
    os.close(ours)
    assert shown.returncode == 0, text
    assert "1/1" in text
    assert "/min" in text
    assert "12,999 calls left" in text
    assert "Adam Silvera: 9 books" in text
    assert "isbndb.call" not in text


def test_every_line_of_json_is_an_object_with_an_event(sandbox: Sandbox) -> None:
    out = io.StringIO()
    call_command("bulk_author_harvest", "--author", "Adam Silvera", "--json", stdout=out)
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["quota", "author", "summary"]
