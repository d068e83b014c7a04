from django.urls import path

from enrichment import api

urlpatterns = [
    path("enrich/batch-direct", api.EnrichBatchView.as_view(), name="enrich-batch-direct"),
    path("books/<path:isbn>", api.BookView.as_view(), name="book"),
]
