from celery import shared_task

from quota import services


@shared_task
def expire_leases() -> int:
    """Gives back what ended operations left set aside; returns the number of reservations closed."""
    return services.expire()


@shared_task
def open_ledger() -> bool:
    """Opens the day's ledger, so that the first request of the day need not; True when it was not open."""
    return services.open_ledger()
