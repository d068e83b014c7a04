from django.urls import path

from enrichment.api import books, reconciliation

urlpatterns = [
    path("enrich/batch-direct", books.EnrichBatchView.as_view(), name="enrich-batch-direct"),
    path("books/<path:isbn>", books.BookView.as_view(), name="book"),
    path("quota/reconcile", reconciliation.ReconcileView.as_view(), name="quota-reconcile"),
]
