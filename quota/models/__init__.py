"""The quota's tables: who may spend and what was spent, the switches, and what was put right."""

from quota.models.corrections import Adjustment, Reconciliation
from quota.models.ledger import Call, Consumer, ConsumerKey, ConsumerUsage, DailyLedger, Reservation
from quota.models.switches import Switches

__all__ = [
    "Adjustment",
    "Call",
    "Consumer",
    "ConsumerKey",
    "ConsumerUsage",
    "DailyLedger",
    "Reconciliation",
    "Reservation",
    "Switches",
]
