"""The plan of `make chaos`: the same seed gives the same plan, and a plan has everything in it."""

from itertools import pairwise

from tests.chaos.plan import DAILY_LIMIT, KILLS, MOODS, OUTAGES, make_plan


def test_the_same_seed_gives_the_same_plan_and_another_seed_another_one() -> None:
    plan = make_plan(7, kills=30, seconds=120)
    assert plan == make_plan(7, kills=30, seconds=120)
    assert plan.events != make_plan(8, kills=30, seconds=120).events


def test_a_plan_has_so_many_kills_and_each_kind_of_event() -> None:
    for seed in range(20):
        plan = make_plan(seed, kills=12, seconds=60)
        assert len(plan.of("kill")) == 12
        assert {event.what for event in plan.of("kill")} == set(KILLS)
        assert {event.what for event in plan.of("outage")} == set(OUTAGES)
        assert {event.what for event in plan.of("mood")} <= {*MOODS, DAILY_LIMIT}
        assert all(0 <= event.at <= plan.seconds for event in plan.events)


def test_events_of_one_series_do_not_overlap_and_nothing_closes_the_new_day() -> None:
    for seed in range(20):
        plan = make_plan(seed, kills=300, seconds=1200)
        for series in ("outage", "mood", "midnight"):
            events = plan.of(series)
            assert all(event.at + event.seconds <= after.at for event, after in pairwise(events))
        closings = [event.at + event.seconds for event in plan.events if event.what == DAILY_LIMIT]
        midnights = [event.at + event.seconds for event in plan.of("midnight")]
        assert len(midnights) == 4
        assert all(2 < midnight - closing < 12 for midnight, closing in zip(midnights, closings, strict=True))
