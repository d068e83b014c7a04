"""The pages of django-celery-beat: they save, and only managers can change anything on them."""

import importlib

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from alexandria.common.publishing import messages_waiting
from tests.fixtures import broker_moved

LIST = "/admin/django_celery_beat/periodictask/"


@pytest.fixture
def task(transactional_db: None) -> PeriodicTask:
    every = IntervalSchedule.objects.create(every=1, period="hours")
    return PeriodicTask.objects.create(name="nothing", task="enrichment.tasks.resume_jobs", interval=every)


def staff(group: str) -> Client:
    importlib.import_module("alexandria.migrations.0001_groups").make_groups(apps, None)
    user = User.objects.create_user(group, is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


def act(client: Client, task: PeriodicTask, action: str) -> bool:
    client.post(LIST, {"action": action, "_selected_action": [task.pk]})
    task.refresh_from_db()
    return task.enabled


def log() -> list[str]:
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


@pytest.mark.slow
def test_only_managers_switch_and_start_tasks_which_the_history_shows(task: PeriodicTask) -> None:
    for client in (staff("viewers"), staff("operators")):
        assert "_selected_action" not in client.get(LIST).text
        for action in ("disable_tasks", "toggle_tasks", "run_tasks", "delete_selected"):
            assert act(client, task, action) is True
        assert client.get(f"{LIST}{task.pk}/change/").status_code == 200
        assert client.post(f"{LIST}{task.pk}/change/", {"name": "mine"}).status_code == 403
    assert log() == []
    manager = staff("managers")
    assert act(manager, task, "disable_tasks") is False
    assert act(manager, task, "enable_tasks") is True
    assert act(manager, task, "delete_selected") is True
    assert log() == ["Switched off.", "Switched on."]


@pytest.mark.slow
def test_a_task_can_be_changed_on_its_page(task: PeriodicTask, admin_client: Client) -> None:
    page = admin_client.get(f"{LIST}{task.pk}/change/")
    form = page.context["adminform"].form
    fields = {name: form[name].value() for name in form.fields}
    given = {name: value for name, value in fields.items() if value not in (None, False)}
    refused = admin_client.post(f"{LIST}{task.pk}/change/", given | {"kwargs": "{", "task": ""})
    assert ("Unable to parse JSON" in refused.text, "Need name of task" in refused.text) == (True, True)
    saved = admin_client.post(f"{LIST}{task.pk}/change/", given | {"description": "every hour"})
    assert saved.status_code == 302
    task.refresh_from_db()
    assert (task.description, task.task) == ("every hour", "enrichment.tasks.resume_jobs")


def test_a_page_takes_only_tasks_of_the_registry_with_their_own_arguments(
    task: PeriodicTask, admin_client: Client
) -> None:
    page = admin_client.get(f"{LIST}{task.pk}/change/")
    form = page.context["adminform"].form
    fields = {name: form[name].value() for name in form.fields}
    given = {name: value for name, value in fields.items() if value not in (None, False)}
    often = IntervalSchedule.objects.create(every=1, period="microseconds")
    for other in (
        {"task": "enrichment.tasks.run_job", "regtask": "", "args": "[1]"},
        {"task": "celery.backend_cleanup", "regtask": ""},
        {"args": "[1]"},
        {"headers": '{"x": 1}'},
        {"queue": "jobs"},
        {"interval": str(often.pk)},
    ):
        assert admin_client.post(f"{LIST}{task.pk}/change/", given | other).status_code == 200, other
    task.refresh_from_db()
    assert (task.task, task.args, task.headers, task.queue) == ("enrichment.tasks.resume_jobs", "[]", "{}", None)

    PeriodicTask.objects.filter(pk=task.pk).update(task="harvest.tasks.run_cron", args='["reconciliation"]')
    PeriodicTask.objects.filter(pk=task.pk).update(kwargs='{"scheduled": false}')
    refused = admin_client.post(LIST, {"action": "run_tasks", "_selected_action": [task.pk]}, follow=True)
    assert "Only the periodic tasks of Alexandria can run" in refused.text


def test_run_now_sends_the_tasks_and_says_so_and_does_not_wait_for_redis(
    task: PeriodicTask, admin_client: Client
) -> None:
    def run_now() -> str:
        return admin_client.post(LIST, {"action": "run_tasks", "_selected_action": [task.pk]}, follow=True).text

    waiting = messages_waiting("celery")
    assert "Started: 1." in run_now()
    assert (messages_waiting("celery"), log()) == (waiting + 1, ["Started by hand."])
    with broker_moved(port=1):
        assert "Redis does not answer: 0 of 1 tasks were started." in run_now()
    assert log() == ["Started by hand."]
