"""A real browser on the real pages of a web process from the Procfile, which uses the database of the test."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, Response, sync_playwright

from alexandria.development.embedded import servers
from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR
from tests import processes
from tests.browser.steps import WIDE, sign_in
from tests.fixtures import set_clock
from tests.processes import wait_until

__all__ = ["set_clock"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MAX_SECONDS = 60.0
SCREENSHOTS = BASE_DIR / ".data" / "browser"
"""The last view of each failed test is stored here."""


def browser_path() -> str | None:
    """The path of the browser, if there is one: CHROMIUM, or a browser in PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser. Without one the tests are skipped; in `make ci` they fail."""
    path = browser_path()
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no browser: make browser")
    return path


@pytest.fixture(scope="package")
def browser_process(chromium: str) -> Iterator[Browser]:
    """A browser for this package. While Playwright's loop runs in this thread, Django regards the thread as async."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "on")
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def only_tab(site: str, browser_process: Browser) -> Page:
    """The tab that all tests use, one after the other. Opening a tab for each test takes half a second of CPU time."""
    context = browser_process.new_context(base_url=site, viewport=WIDE, color_scheme="light", locale="en-GB")
    return context.new_page()


@pytest.fixture(scope="session")
def isbndb() -> Iterator[Sandbox]:
    with Sandbox(max_rps=None, batch_price="request") as server:
        yield server


@pytest.fixture(scope="session")
def site(
    chromium: str, django_db_setup: None, isbndb: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a web process, which all tests share."""
    port = processes.unused_port()
    address = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("web") / "web.log"
    variables = {"PORT": str(port), "BIND": "127.0.0.1", "WEB_CONCURRENCY": "1"}
    web = processes.start("web", log, ISBNDB_BASE_URL=isbndb.url, ISBNDB_API_KEY=isbndb.key, **variables)
    try:
        wait_until(lambda: listens(port), web, log=log)
        yield address
    finally:
        web.terminate()
        web.wait(MAX_SECONDS)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def tables(transactional_db: None, isbndb: Sandbox, settings) -> None:
    """Empty tables. Content types are numbered from 1, because the web process remembers their ids."""
    call_command("flush", interactive=False, verbosity=0)
    settings.ISBNDB_BASE_URL, settings.ISBNDB_API_KEY = isbndb.url, isbndb.key
    isbndb.set_limits(spent=0)


@pytest.fixture
def tab(site: str, tables: None, only_tab: Page, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A tab without cookies and storage, as in a new browser. Every error in it fails the test at its end."""
    wrong, stop_watching = watch(only_tab, site)
    yield only_tab
    report = getattr(request.node, "rep_call", None)  # from pytest-playwright
    if report is not None and report.failed:
        servers.private_folder(SCREENSHOTS)
        only_tab.screenshot(path=SCREENSHOTS / f"{request.node.name}.png", full_page=True)
    if only_tab.url.startswith(site):
        only_tab.evaluate("localStorage.clear(); sessionStorage.clear()")
    only_tab.goto("about:blank")
    only_tab.context.clear_cookies()
    only_tab.set_viewport_size(WIDE)
    stop_watching()
    assert wrong == []


def watch(page: Page, site: str) -> tuple[list[str], Callable[[], None]]:
    """A list that collects errors, failed requests and requests to other hosts, and a function that ends this."""
    wrong: list[str] = []

    def note_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(f"console: {message.text}")

    def note_error(error: Error) -> None:
        wrong.append(f"script: {error}")

    def note_request(request: Request) -> None:
        if not request.url.startswith((site, "data:", "blob:")):
            wrong.append(f"a request to another host: {request.url}")

    def note_failure(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # a request that the next page interrupted
            wrong.append(f"{request.failure}: {request.url}")

    def note_response(response: Response) -> None:
        if response.status >= 400:
            wrong.append(f"{response.status}: {response.url}")

    return wrong, listen(
        page,
        console=note_console,
        pageerror=note_error,
        request=note_request,
        requestfailed=note_failure,
        response=note_response,
    )


def listen(page: Any, **listeners: Callable[[Any], None]) -> Callable[[], None]:
    """Adds listeners for events of the page. Returns a function that removes them."""
    for event, listener in listeners.items():
        page.on(event, listener)

    def stop() -> None:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)

    return stop


@pytest.fixture
def admin_tab(tab: Page, site: str) -> Page:
    """A tab in which an administrator is logged in."""
    sign_in(tab, User.objects.create_superuser("admin"), site=site)
    return tab
