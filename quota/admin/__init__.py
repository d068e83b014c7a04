"""The pages of the admin, a module for each part. History is read-only; only consumers and switches can be changed."""

from quota.admin import calls, consumers, corrections, ledgers, refusals, reservations, switches

__all__ = ["calls", "consumers", "corrections", "ledgers", "refusals", "reservations", "switches"]
