"""Who guesses passwords has to wait longer and longer, and cannot keep the service busy or its users out."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

import pytest
from django.contrib.auth import password_validation
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import F
from django.test import Client
from django.utils import timezone

from alexandria.alerts import services as alerts
from alexandria.alerts import snapshot
from alexandria.alerts.rules import RULES
from alexandria.alerts.snapshot import LOG_IN_WINDOW, Snapshot
from alexandria.common import turns
from alexandria.logins.hashers import OneAtATimeHasher
from alexandria.logins.models import LogIn
from alexandria.logins.throttling import MAX_PAUSE, OF_ADDRESS, OF_USER, failures_since
from quota.selectors.status import get_status
from quota.services import reservations

pytestmark = pytest.mark.django_db(transaction=True)

HOME, STRANGER = "192.0.2.1", "198.51.100.7"


@pytest.fixture(autouse=True)
def ann() -> User:
    return User.objects.create_user("ann", "librarian@example.org", password="right", is_staff=True, is_superuser=True)


def log_in(password: str, *, username: str = "ann", address: str = HOME) -> Any:
    form = urlencode({"username": username, "password": password})
    return Client(REMOTE_ADDR=address).post(
        "/admin/login/?next=/admin/", form, content_type="application/x-www-form-urlencoded"
    )


def seconds_to_wait(response: Any) -> int:
    assert response.status_code == 429, response.status_code
    seconds = int(response.headers["Retry-After"])
    assert f"Try again in {seconds} s" in response.content.decode()
    return seconds


def time_passes(time: timedelta) -> None:
    LogIn.objects.update(at=F("at") - time)


def test_a_right_password_logs_in_and_every_attempt_is_on_record(admin_client: Client) -> None:
    assert log_in("wrong").status_code == 200
    assert log_in("right").status_code == 302
    assert list(LogIn.objects.values_list("username", "address", "succeeded")) == [
        ("ann", HOME, True),
        ("ann", HOME, False),
    ]
    page = admin_client.get("/admin/logins/login/").content.decode()
    assert page.count(HOME) == 2


def test_after_some_failures_the_pause_doubles_and_a_try_in_it_neither_counts_nor_hashes() -> None:
    for _ in range(OF_USER.free):
        assert log_in("wrong").status_code == 200
    pauses = []
    for _ in range(12):
        with patch.object(PBKDF2PasswordHasher, "encode", side_effect=AssertionError("hashed")):
            pauses.append(seconds_to_wait(log_in("right")))
        time_passes(timedelta(seconds=pauses[-1]))
        assert log_in("wrong").status_code == 200
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 512, *[MAX_PAUSE.total_seconds()] * 3]
    assert LogIn.objects.count() == OF_USER.free + 12


def test_a_right_password_after_the_pause_makes_the_failures_count_no_more() -> None:
    for _ in range(OF_USER.free):
        log_in("wrong")
    time_passes(timedelta(seconds=2))
    assert log_in("right").status_code == 302
    for _ in range(OF_USER.free):
        assert log_in("wrong").status_code == 200
    assert seconds_to_wait(log_in("wrong")) == 2


def test_a_stranger_who_guesses_does_not_keep_the_user_out_of_an_address_that_the_user_has_used() -> None:
    assert log_in("right").status_code == 302
    for _ in range(OF_USER.free):
        assert log_in("wrong", address=STRANGER).status_code == 200
    assert seconds_to_wait(log_in("wrong", address=STRANGER)) == 2
    assert seconds_to_wait(log_in("right", address="203.0.113.9")) == 2
    assert log_in("right").status_code == 302


def test_an_address_that_guesses_the_passwords_of_many_users_has_to_wait() -> None:
    for number in range(OF_ADDRESS.free):
        assert log_in("wrong", username=f"user {number}").status_code == 200
    assert seconds_to_wait(log_in("right", username="bob")) == 2
    assert log_in("wrong", username="bob", address=STRANGER).status_code == 200


def test_guesses_at_once_count_each_other() -> None:
    barrier = threading.Barrier(3)

    def guess(number: int) -> int:
        try:
            barrier.wait()
            return int(log_in("wrong", address=f"192.0.2.{number}").status_code)
        finally:
            connection.close()

    for _ in range(OF_USER.free):
        LogIn.objects.create(username="ann", address=HOME, at=timezone.now() - timedelta(seconds=3))
    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(guess, range(3))) == [200, 429, 429]


def test_a_process_hashes_one_password_at_a_time() -> None:
    at_once, most = 0, 0
    lock = threading.Lock()

    def encode(*_: Any) -> str:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.02)
        with lock:
            at_once -= 1
        return "pbkdf2_sha256$1$salt$hash"

    with patch.object(PBKDF2PasswordHasher, "encode", encode), ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: PBKDF2PasswordHasher().encode("x", "salt"), range(4)))
        assert most > 1, "without the lock"
        most = 0
        list(threads.map(lambda _: OneAtATimeHasher().encode("x", "salt"), range(4)))
        assert most == 1
    assert make_password("x").startswith("pbkdf2_sha256$")


def test_log_ins_take_long_so_they_leave_threads_to_others() -> None:
    barrier, over = threading.Barrier(3), threading.Event()

    def other() -> None:
        turns.name_sender(f"address {HOME}")
        turns.take_turn()
        barrier.wait()
        over.wait()
        turns.end_turn()

    others = [threading.Thread(target=other) for _ in range(2)]
    for thread in others:
        thread.start()
    barrier.wait()
    try:
        refused = log_in("right")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert not LogIn.objects.exists()
    finally:
        over.set()
        for thread in others:
            thread.join()


def test_attempts_are_deleted_after_a_month_also_while_nobody_logs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "SECONDS_TO_ANSWER", (0.01,))  # no worker runs
    log_in("wrong")
    reservations.open_ledger()
    alerts.check()
    assert LogIn.objects.count() == 1
    time_passes(timedelta(days=31))
    alerts.check()
    assert not LogIn.objects.exists()


def test_a_text_that_is_no_users_name_is_not_on_record_as_it_was_typed() -> None:
    for typed in ("my pa55word", "my pa55word", "another"):
        log_in("wrong", username=typed)
    first, second, third = LogIn.objects.order_by("at").values_list("username", flat=True)
    assert first == second != third
    assert "pa55word" not in first


def test_a_name_that_no_user_has_is_slowed_down_like_that_of_a_user() -> None:
    for number in range(OF_USER.free):
        assert log_in("wrong", username="nobody", address=f"192.0.2.{number}").status_code == 200
    assert seconds_to_wait(log_in("wrong", username="nobody", address=STRANGER)) == 2
    assert log_in("wrong", username="another", address=STRANGER).status_code == 200


def test_many_failed_log_ins_open_an_alert() -> None:
    [rule] = [rule for rule in RULES if rule.name == "log_ins"]
    for number in range(20):
        log_in("wrong", username=f"user {number}", address=f"192.0.2.{number}")
    reservations.open_ledger()
    failed = failures_since(timezone.now() - LOG_IN_WINDOW)
    assert rule.check is not None
    for count, findings in ((failed - 1, 0), (failed, 1)):
        snapshot = Snapshot(status=get_status(), failed_log_ins=count)
        assert len(list(rule.check(rule, snapshot))) == findings


@pytest.mark.parametrize("password", ["librarian1", "short", "password", "9284756102"])
def test_a_password_that_is_easy_to_guess_is_refused(ann: User, password: str) -> None:
    with pytest.raises(ValidationError):
        password_validation.validate_password(password, ann)
