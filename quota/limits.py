"""The limits that refuse calls, each as one entry. Everything that names, shows or explains a limit takes it from here.

docs/architecture.md says how to add one.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """One reason for which calls are refused."""

    name: str
    """In the API, the metrics, the log and the SQL functions."""
    label: str
    """For lists, filters and headings."""
    explanation: str
    """One sentence: why calls are refused. It holds no figures, so that the same reason always has the same words."""
    remedy: str
    """What a person can do."""
    retry: str
    """When a later retry can succeed."""
    consumer_field: str = ""
    """The field of Consumer that holds the limit's figure; "" when the figure is not the consumer's own."""
    may_come_free: bool = False
    """Whether reserved calls count against it. They can go back at any moment, and then calls come free."""

    @property
    def value(self) -> str:
        """The name, as the value of a choice in a filter."""
        return self.name

    def about(self, consumer: str) -> str:
        """The explanation with the consumer's slug, for readers who do not see which consumer it is about."""
        return re.sub(r"\b([Tt])his consumer\b", rf"\1he consumer {consumer}", self.explanation)


def _by_name(*limits: Limit) -> dict[str, Limit]:
    return {limit.name: limit for limit in limits}


LIMITS = _by_name(
    Limit(
        name="day_closed",
        label="day closed by ISBNdb",
        explanation="ISBNdb has reported that its quota of the day is used up.",
        remedy=(
            "Wait for the reset at 00:00 UTC. If ISBNdb has calls left, its counter opens the day again within ten "
            "minutes, and a person can do it on the page of the day. If this happens often, our daily limit is higher "
            "than the limit of our ISBNdb plan. Look at the page “Reconciliations”."
        ),
        retry="at the reset, or when the day is opened again",
    ),
    Limit(
        name="midnight",
        label="midnight UTC",
        explanation="Nothing is sent within 2 seconds of midnight UTC, because ISBNdb's clock may differ from ours.",
        remedy="Nothing. Requests go out again a few seconds later.",
        retry="2 seconds after midnight",
    ),
    Limit(
        name="cap_per_operation",
        label="cap per operation",
        explanation="One operation of this consumer may not take so many calls.",
        remedy="Request fewer calls in one operation, or raise the consumer's cap per operation.",
        retry="never: request fewer calls (`free` says how many)",
        consumer_field="cap_per_operation",
    ),
    Limit(
        name="daily_budget",
        label="daily budget",
        explanation="This consumer's daily budget is used or reserved.",
        remedy="Raise the consumer's daily budget. It takes effect immediately.",
        retry="at the reset, or when reserved calls go back",
        consumer_field="daily_budget",
        may_come_free=True,
    ),
    Limit(
        name="safety_limit",
        label="safety limit of the day",
        explanation="All calls of today are used or reserved.",
        remedy=(
            "Wait until running operations return reserved calls, or until the reset at 00:00 UTC. You can release a "
            "stuck reservation on the page “Reservations”."
        ),
        retry="at the reset, or when reserved calls go back",
        may_come_free=True,
    ),
    Limit(
        name="floor",
        label="floor (calls that stay free for others)",
        explanation="This consumer must leave calls free for others.",
        remedy=(
            "Nothing. The floor keeps calls free for clients that wait for an answer. If they need fewer calls, lower "
            "the floor of this consumer."
        ),
        retry="at the reset, or when reserved calls go back",
        consumer_field="floor",
        may_come_free=True,
    ),
)
"""By name, in the order in which the database checks them: the first one that is exceeded refuses the calls."""

SWITCHED_OFF = _by_name(
    Limit(
        name="inactive",
        label="consumer switched off",
        explanation="This consumer is switched off.",
        remedy="Switch the consumer on.",
        retry="when the consumer is switched on",
    ),
    Limit(
        name="harvest_off",
        label="harvest switched off",
        explanation="Harvesting is switched off: crons and bulk work get no calls.",
        remedy="Switch harvesting on, on the page of the switches.",
        retry="when harvesting is switched on",
    ),
)
"""Not limits but switches. They refuse every call, also when the limits are only observed."""

REASONS = LIMITS | SWITCHED_OFF

CHOICES = [(limit.name, limit.label) for limit in LIMITS.values()]
"""The limits as choices of a model field."""

CONSUMER_FIELDS = [limit.consumer_field for limit in reversed(LIMITS.values()) if limit.consumer_field]
"""The fields of Consumer that limits compare with, the widest limit first."""
