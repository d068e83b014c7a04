"""The quota's tables: consumers, ledgers, reservations, calls, refusals, switches, prices and corrections."""

from quota.models.corrections import Adjustment, Reconciliation, Reopening
from quota.models.ledger import Call, Consumer, ConsumerKey, ConsumerUsage, DailyLedger, Reservation
from quota.models.prices import PriceMeasurement
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
    "PriceMeasurement",
    "Reconciliation",
    "Refusal",
    "Reopening",
    "Reservation",
    "Switches",
]
