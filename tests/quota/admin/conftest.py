import pytest
from django.test import Client

from quota import services
from quota.models import Consumer, ConsumerKey


@pytest.fixture
def pages(admin_client: Client, consumer: Consumer) -> Client:
    """An administrator, on a day with a little history."""
    services.reserve_and_dispatch(consumer="reader", operation="shelf", calls=3, method="POST", path="/books")
    services.increment(2, note="by hand")
    ConsumerKey.objects.create_key(name="one", consumer=consumer)
    return admin_client
