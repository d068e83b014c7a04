"""Tells the rest of the program what becomes of jobs. The jobs do not know who listens."""

from django.dispatch import Signal

job_changed = Signal()
"""Sent with `job_id` when a job has ended or begun to wait, in the transaction that records it: its row is locked.

What a listener writes is committed with the change, or not at all.
"""
