import pytest
from django.test import Client

from quota.models import Consumer, ConsumerKey
from quota.prices import RequestKind
from quota.services import reservations


@pytest.fixture
def pages(admin_client: Client, consumer: Consumer) -> Client:
    """The client of an administrator, on a day with a little history."""
    reservations.reserve_and_dispatch(
        consumer="reader", operation="shelf", calls=3, kind=RequestKind.BATCH, method="POST", path="/books"
    )
    reservations.increment(2, note="by hand")
    ConsumerKey.objects.create_key(name="one", consumer=consumer)
    return admin_client
