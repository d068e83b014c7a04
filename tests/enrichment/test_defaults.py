"""The consumer that pays for work started in the admin exists from the start."""

from enrichment.defaults import ensure_defaults
from quota.models import Consumer


def test_the_staff_consumer_is_created_once_and_a_changed_one_stays_as_it_is(db: None) -> None:
    ensure_defaults()
    staff = Consumer.objects.get()
    assert (staff.slug, staff.kind, staff.floor, staff.daily_budget) == ("staff", "api", 0, None)
    Consumer.objects.update(daily_budget=5, floor=100)
    ensure_defaults()
    staff.refresh_from_db()
    assert (staff.floor, staff.daily_budget) == (100, 5)
