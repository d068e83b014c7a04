from django.urls import path

from enrichment.api import books, queue

urlpatterns = [
    path("enrich/batch-direct", books.EnrichBatchView.as_view(), name="enrich-batch-direct"),
    path("enrich/queue", queue.QueueView.as_view(), name="enrich-queue"),
    path("books/<path:isbn>", books.BookView.as_view(), name="book"),
]
