"""The words for what a request costs. The table of prices is the SQL function `quota_price`."""

from enum import StrEnum


class RequestKind(StrEnum):
    """The kinds of request that ISBNdb prices differently."""

    BATCH = "batch"
    """`POST /books`: 1 call or, on other plans, 1 call for each ISBN."""
    FEED = "feed"
    """`GET /feeds/books/updates`: no call."""
    KEY = "key"
    """`GET /key`: 0 or 1 call, as measured."""
    PAGE = "page"
    """Any other: 1 call."""


class BatchPrice(StrEnum):
    """What ISBNdb charges for a batch."""

    REQUEST = "request"
    """1 call for the request."""
    ISBN = "isbn"
    """1 call for each ISBN."""
    UNKNOWN = "unknown"
    """Not measured yet. The higher price is charged."""


BATCH_PRICES = [
    (BatchPrice.REQUEST.value, "1 call for the request"),
    (BatchPrice.ISBN.value, "1 call for each ISBN"),
]
"""The prices that can be measured or chosen, as choices of a model field."""
