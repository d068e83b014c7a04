"""The quota's tables: consumers, ledgers, reservations, calls, refusals, switches and corrections."""

from quota.models.corrections import Adjustment, Reconciliation, Reopening
from quota.models.ledger import Call, Consumer, ConsumerKey, ConsumerUsage, DailyLedger, Reservation
from quota.models.refusals import Refusal
from quota.models.switches import DayLimits, Switches

__all__ = [
    "Adjustment",
    "Call",
    "Consumer",
    "ConsumerKey",
    "ConsumerUsage",
    "DailyLedger",
    "DayLimits",
    "Reconciliation",
    "Refusal",
    "Reopening",
    "Reservation",
    "Switches",
]
