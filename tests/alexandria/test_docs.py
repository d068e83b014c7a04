"""The commands, requests, settings, paths and links in README.md, CONTRIBUTING.md and docs/ exist and work.

A block that begins with ```sh and another word is not run here: the word says why, or another test runs it.
"""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from django.conf import settings
from django.core.management import BaseCommand, call_command, get_commands, load_command_class
from drf_spectacular.generators import SchemaGenerator

from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR
from enrichment.books.shown import SHOWN_FIELDS
from enrichment.jobs.workers import run_job
from enrichment.models import Job
from enrichment.serializers.catalogue import SUMMARY_FIELDS
from harvest.defaults import ensure_defaults
from quota.models import Consumer, DailyLedger
from quota.services import reservations
from tests import architecture_map
from tests.alexandria.test_env import ENV_EXAMPLE
from tests.fixtures import NOON

pytestmark = pytest.mark.slow

DOCS = [BASE_DIR / "README.md", BASE_DIR / "CONTRIBUTING.md", *sorted((BASE_DIR / "docs").rglob("*.md"))]
MARKDOWN = [*DOCS, BASE_DIR / "CHANGELOG.md"]
MAX_LINE = 120
MAX_README_LINES = 150
FROM_CODE = {"alerts.md", "quota.md"}  # tests compare their tables of rules and limits with the code
WITH_REQUESTS = [doc for doc in DOCS if "\ncurl -sS" in doc.read_text() or "\n    curl -sS" in doc.read_text()]
NOT_RUN = {
    # These have their own tests.
    "run",
    "serve",
    "demo",
    "embedded",
    "isbndb_sandbox",
    "export_books",
    "migrate",
    "collectstatic",
    # So have these, and they need a server or a list.
    "smoke",
    "bulk_author_harvest",
}
DEFAULTS_IN_WORDS = {"none": "", "embedded": ""}
FOLDERS = r"(?:alexandria|quota|enrichment|harvest|tests|docs|\.ci)"
READ_BY_OTHERS = {"ALEXANDRIA_API_KEY", "ALEXANDRIA_REFUSED_KEY", "CONN_MAX_AGE"}


class Block(NamedTuple):
    """A block of code: its lines, and the words after its ``` (None if it is indented)."""

    info: str | None
    text: str

    def commands(self) -> list[str]:
        """Its shell lines, with continued lines joined. None if the block is marked as not run."""
        if self.info not in {None, "sh"}:
            return []
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [line.strip() for line in lines if re.match(r"(curl|manage\.py) ", line.strip())]


def blocks(doc: Path) -> Iterator[Block]:
    fence: list[str] | None = None
    info, indented = "", []
    for line in [*doc.read_text().splitlines(), ""]:
        if (mark := re.match(r" *```(.*)", line)) and fence is None:
            fence, info = [], mark[1].strip()
        elif mark:
            yield Block(info, "\n".join(fence or []))
            fence = None
        elif fence is not None:
            fence.append(line)
        elif line.startswith("    "):
            indented.append(line[4:])
        elif indented:
            yield Block(None, "\n".join(indented))
            indented = []


def inline(doc: Path) -> list[str]:
    """The code between `backticks`, on one or two lines."""
    prose = re.sub(r"^ *```.*?^ *```", "", doc.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.replace("\\|", "|").split()) for code in re.findall(r"`([^`]+)`", prose)]


def arguments(command: str) -> list[str]:
    """The words after manage.py, without a comment."""
    return shlex.split(command.partition("manage.py ")[2], comments=True)


def command_class(name: str) -> BaseCommand:
    known = get_commands()
    assert name in known, f"there is no manage.py {name}"
    app = known[name]
    return app if isinstance(app, BaseCommand) else load_command_class(app, name)


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_every_command_and_option_and_target_and_setting_exists(doc: Path) -> None:
    for line in [command for block in blocks(doc) for command in block.commands() if command.startswith("manage.py")]:
        name, *options = arguments(line)
        given = [option for option in options if not option.startswith("[")]
        command_class(name).create_parser("manage.py", name).parse_args(given)

    for code in inline(doc):
        if synopsis := re.match(r"(?:.*\s)?manage\.py ([a-z_]+)(.*)", code):
            known = command_class(synopsis[1]).create_parser("manage.py", synopsis[1]).format_help()
            for option in re.findall(r"--[a-z][a-z-]+", synopsis[2]):
                assert option in known, f"{code}: there is no {option}"

    makefile = (BASE_DIR / "Makefile").read_text()
    shown = [*inline(doc), *(line for block in blocks(doc) for line in block.text.splitlines())]
    for target in [found[1] for code in shown if (found := re.match(r"(?:[A-Z]+=\S+ )?make ([a-z]+)\b", code.strip()))]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"there is no make {target}"

    documented = set(re.findall(r"^# ([A-Z_]+)=", ENV_EXAMPLE.read_text(), re.MULTILINE)) | READ_BY_OTHERS
    named = {found[1] for code in inline(doc) if (found := re.fullmatch(r"([A-Z]+(?:_[A-Z]+)+)(?:=.*)?", code))}
    examples = [line.strip() for block in blocks(doc) if block.info == "env" for line in block.text.splitlines()]
    assert named | {line.partition("=")[0] for line in examples} <= documented


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_every_link_has_a_target(doc: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", doc.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (doc.parent / unquote(path)).resolve() if path else doc
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, (
                target
            )


@pytest.mark.parametrize("doc", MARKDOWN, ids=lambda doc: doc.name)
def test_every_path_that_is_named_exists(doc: Path) -> None:
    """`quota/limits.py` is a path from the root of the repository; `<name>` and `*` in it mean any name."""
    for code in inline(doc):
        if not re.fullmatch(rf"{FOLDERS}/[\w./<>*-]*|[\w-]+\.(?:md|yaml|toml)", code):
            continue
        pattern = re.sub(r"<\w+>", "*", code.rstrip("/"))
        assert any(found for folder in (BASE_DIR, doc.parent) for found in folder.glob(pattern)), code


@pytest.mark.parametrize("doc", MARKDOWN, ids=lambda doc: doc.name)
def test_no_line_is_longer_than_120_characters(doc: Path) -> None:
    """Code blocks, lines of pictures or a long URL, and table rows that have the words of the code may be longer."""
    prose = re.sub(r"^ *```.*?^ *```", "", doc.read_text(), flags=re.MULTILINE | re.DOTALL)
    excepted = re.compile(r" {4}|.*(https?://\S{60}|!\[)" + (r"|\| `" if doc.name in FROM_CODE else ""))
    assert [line for line in prose.splitlines() if len(line) > MAX_LINE and not excepted.match(line)] == []


def test_every_guarantee_has_tests() -> None:
    page = (BASE_DIR / "docs" / "guarantees.md").read_text()
    promised = re.findall(r"^(\d+)\. \*\*(.+)\.\*\*", page, re.MULTILINE)
    shown = dict(re.findall(r"^### (\d+\. .+)\n((?:(?!###).*\n)+)", page, re.MULTILINE))
    assert list(shown) == [f"{number}. {name}" for number, name in promised]
    assert all("`tests/" in tests for tests in shown.values())


def test_the_readme_is_short() -> None:
    assert len((BASE_DIR / "README.md").read_text().splitlines()) <= MAX_README_LINES


def test_the_settings_page_and_the_example_have_the_same_variables_and_defaults() -> None:
    listed = re.findall(r"^\| `([A-Z_]+)` \| (\S+) \|", (BASE_DIR / "docs" / "settings.md").read_text(), re.MULTILINE)
    example = re.findall(r"^# ([A-Z_]+)=(.*)$", ENV_EXAMPLE.read_text(), re.MULTILINE)
    assert len(listed) == len(dict(listed)), "every setting once"
    assert {name: DEFAULTS_IN_WORDS.get(default, default) for name, default in listed} == dict(example)


def test_the_table_of_endpoints_has_every_path_of_the_schema() -> None:
    rows = re.findall(r"^\| \[`([A-Z]+) /api/(\S+)`\]", (BASE_DIR / "docs" / "api.md").read_text(), re.MULTILINE)
    paths = SchemaGenerator().get_schema(public=True)["paths"]
    served = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert {(method, re.sub(r"{\w+}", "{}", f"/api/{path}")) for method, path in rows} == {
        (method, re.sub(r"{\w+}", "{}", path)) for method, path in served
    }


def test_the_page_about_the_api_names_every_field_of_a_book() -> None:
    _, _, section = (BASE_DIR / "docs" / "api.md").read_text().partition("\nA list shows short books: ")
    short, _, others = section.partition("\n\n")[0].partition("The other fields are")
    assert set(re.findall(r"`(\w+)`", short)) == set(SUMMARY_FIELDS)
    assert set(re.findall(r"`(\w+)`", others)) == set(SHOWN_FIELDS) - set(SUMMARY_FIELDS)


def test_the_map_is_drawn_from_the_import_contracts() -> None:
    """If this fails after a change of the contracts or rooms: `python -m tests.architecture_map`."""
    assert architecture_map.MAP.read_text() == architecture_map.drawing()


def test_the_table_of_commands_has_every_command() -> None:
    table = (BASE_DIR / "docs" / "commands.md").read_text()
    listed = re.findall(r"^\| `manage\.py (\w+)", table, re.MULTILINE)
    ours = ("alexandria", "quota", "enrichment", "harvest")
    assert sorted(listed) == sorted(
        name for name, app in get_commands().items() if isinstance(app, str) and app.partition(".")[0] in ours
    )


def test_every_command_in_the_docs_works(sandbox: Sandbox, consumer: Consumer) -> None:
    ensure_defaults()
    reservations.increment(20, consumer="bulk-author")  # so that a correction can lower the figure
    lines = {line for doc in DOCS for block in blocks(doc) for line in block.commands() if "manage.py " in line}
    lines = {line for line in lines if arguments(line)[0] not in NOT_RUN and " [--" not in line}
    assert len(lines) >= 8
    for line in sorted(lines):
        said = io.StringIO()
        if "quota_reopen" in line:
            DailyLedger.objects.update(closed_at=NOON, closed_reason="Daily quota exceeded")
        with suppress(SystemExit):  # exit codes other than 0 mean drift or a skipped run
            call_command(*arguments(line), stdout=said, stderr=said)
        assert said.getvalue(), line


def keys_of(value: Any) -> set[str]:
    """The names of fields at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


@pytest.mark.django_db(transaction=True, reset_sequences=True)  # the pages name the first author and work
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("doc", WITH_REQUESTS, ids=lambda doc: doc.name)
def test_every_request_is_answered_as_shown(doc: Path, live_server, sandbox: Sandbox, key: str, tmp_path: Path) -> None:
    environment = os.environ | {"URL": live_server.url, "KEY": key}
    answer = ""
    for block in blocks(doc):
        requests = [command for command in block.commands() if command.startswith("curl")]
        for line in requests:
            if job := Job.objects.order_by("created_at").last():
                environment["job"] = str(job.pk)
            asked = subprocess.run(
                ["sh", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert (asked.returncode, asked.stderr) == (0, ""), line
            answer = asked.stdout.replace("\r", "")
            assert " -sSi " in line or "urn:alexandria:problem" not in answer, f"{line}: {answer}"
            while Job.objects.filter(state="queued").exists():
                run_job()
        if answer and not requests:
            compare(block.text, answer)
            answer = ""


def compare(shown: str, answer: str) -> None:
    """The answer has the status, the headers and the fields that the page shows."""
    lines = answer.splitlines()
    if status := re.match(r"HTTP/1.1 (\d+)", shown):
        assert lines[0].split()[1] == status[1], answer
    for header in re.findall(r"^([A-Z][A-Za-z-]+): ", shown, re.MULTILINE):
        assert any(line.startswith(f"{header}: ") for line in lines), f"{header} is not in {answer}"
    if fields := set(re.findall(r'"(\w+)":', shown)):
        _, _, body = answer.rpartition("\n\n")
        assert fields <= keys_of(json.loads(body)), body


def test_every_file_that_names_the_version_names_the_same() -> None:
    version = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]
    assert settings.SPECTACULAR_SETTINGS["VERSION"] == version
    assert f"\n## {version} " in (BASE_DIR / "CHANGELOG.md").read_text()
