from django.urls import path

from enrichment.api import bibliographies, books, releases

urlpatterns = [
    path("enrich/batch-direct", books.EnrichBatchView.as_view(), name="enrich-batch-direct"),
    path("authors/enrich-bibliography", bibliographies.EnrichBibliographyView.as_view(), name="enrich-bibliography"),
    path("books/enrich-new-releases", releases.EnrichNewReleasesView.as_view(), name="enrich-new-releases"),
    path("books/<path:isbn>", books.BookView.as_view(), name="book"),
]
