"""Jobs in the admin: looked at, cancelled and retried, and nothing else."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from enrichment.models import Job
from enrichment.services.jobs import cancel_job, create_job
from quota.models import Consumer
from tests.fixtures import known_isbns

CHANGELIST = "admin:enrichment_job_changelist"


def create(consumer: Consumer) -> Job:
    return create_job(consumer=consumer, kind=Job.Kind.BATCH_DIRECT, wanted={"isbns": known_isbns(2)})


def act(client: Client, action: str) -> list[str]:
    chosen = list(Job.objects.values_list("pk", flat=True))
    page = client.post(reverse(CHANGELIST), {"action": action, "_selected_action": chosen}, follow=True)
    return [str(message) for message in page.context["messages"]]


def test_jobs_are_shown_and_cannot_be_changed(
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


def test_actions_say_how_many_jobs_they_reached(admin_client: Client, consumer: Consumer) -> None:
    cancel_job(create(consumer).pk)
    create(consumer)
    create(consumer)
    assert act(admin_client, "cancel") == ["2 jobs cancelled.", "1 left as it was."]
    assert act(admin_client, "retry") == ["3 jobs queued again."]
    assert act(admin_client, "retry") == ["0 jobs queued again.", "3 left as they were."]
    assert set(Job.objects.values_list("state", flat=True)) == {"queued"}
    assert LogEntry.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_who_may_only_look_is_not_offered_the_actions(client: Client, consumer: Consumer, django_user_model) -> None:
    onlooker = django_user_model.objects.create_user("onlooker", is_staff=True)
    onlooker.user_permissions.add(Permission.objects.get(codename="view_job"))
    client.force_login(onlooker)
    job = create(consumer)
    act(client, "cancel")
    job.refresh_from_db()
    assert job.state == "queued"
