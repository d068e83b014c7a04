"""The quota's tables: who may spend, what was spent and what was refused, the switches, and what was put right."""

from quota.models.corrections import Adjustment, Reconciliation
from quota.models.ledger import Call, Consumer, ConsumerKey, ConsumerUsage, DailyLedger, Reservation
from quota.models.refusals import Refusal
from quota.models.switches import Switches

__all__ = [
    "Adjustment",
    "Call",
    "Consumer",
    "ConsumerKey",
    "ConsumerUsage",
    "DailyLedger",
    "Reconciliation",
    "Refusal",
    "Reservation",
    "Switches",
]
