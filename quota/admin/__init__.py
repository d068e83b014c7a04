"""The admin pages of the quota, one module for each part. Only consumers and switches can be changed."""

from quota.admin import calls, consumers, corrections, ledgers, refusals, reservations, switches

__all__ = ["calls", "consumers", "corrections", "ledgers", "refusals", "reservations", "switches"]
