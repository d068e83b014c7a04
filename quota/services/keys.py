"""Creates, rotates and revokes API keys. A key is returned once; only its hash is stored."""

from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from alexandria.common.text import visible
from quota.exceptions import KeyNotUsable
from quota.models import Consumer, ConsumerKey

log = structlog.get_logger(__name__)


def create_key(
    *, consumer: Consumer, name: str, sees_all: bool = False, expires_at: datetime | None = None
) -> tuple[ConsumerKey, str]:
    """Creates a key of the consumer. Returns its row and the key itself, which cannot be shown again.

    `name`: for people, up to 50 characters. `sees_all`: a manager's key, which can see the calls of all consumers.
    """
    row = ConsumerKey(consumer=consumer, name=visible(name), sees_all=sees_all, expiry_date=expires_at)
    key: str = ConsumerKey.objects.assign_key(row)
    row.save()
    log.info("quota.key_created", consumer=consumer.slug, prefix=row.prefix)
    return row, key


def rotate_key(prefix: str, *, grace: timedelta = timedelta()) -> tuple[ConsumerKey, str]:
    """Replaces the key with that prefix and returns what `create_key` returns.

    The new key has the name, the rights and the expiry of the old one. The old key stops working at once, or after
    `grace` at the latest. Raises KeyNotUsable and ConsumerKey.DoesNotExist.
    """
    with transaction.atomic():
        old = _usable(prefix)
        row, key = create_key(consumer=old.consumer, name=old.name, sees_all=old.sees_all, expires_at=old.expiry_date)
        ends = timezone.now() + grace
        if not grace:
            old.revoked = True
        elif old.expiry_date is None or ends < old.expiry_date:
            old.expiry_date = ends
        old.save(update_fields=["revoked", "expiry_date"])
    log.info("quota.key_rotated", consumer=old.consumer.slug, prefix=prefix, by=row.prefix, grace=str(grace))
    return row, key


def revoke_key(prefix: str) -> ConsumerKey:
    """Revokes the key with that prefix, which cannot be undone. Raises what `rotate_key` raises."""
    with transaction.atomic():
        row = _usable(prefix)
        row.revoked = True
        row.save(update_fields=["revoked"])
    log.info("quota.key_revoked", consumer=row.consumer.slug, prefix=prefix)
    return row


def _usable(prefix: str) -> ConsumerKey:
    """The key's row, locked."""
    row: ConsumerKey = (
        ConsumerKey.objects.select_for_update(no_key=True, of=("self",)).select_related("consumer").get(prefix=prefix)
    )
    if row.revoked or row.has_expired:
        raise KeyNotUsable(f"The key {prefix} {'is revoked' if row.revoked else 'has expired'} already.")
    return row
