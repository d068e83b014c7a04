from django.urls import path

from enrichment.api import bibliographies, books, catalogue, releases

urlpatterns = [
    path("enrich/batch-direct", books.EnrichBatchView.as_view(), name="enrich-batch-direct"),
    path("authors/enrich-bibliography", bibliographies.EnrichBibliographyView.as_view(), name="enrich-bibliography"),
    path("authors", catalogue.AuthorsView.as_view(), name="authors"),
    path("authors/top", catalogue.TopAuthorsView.as_view(), name="top-authors"),
    path("authors/<int:author_id>", catalogue.AuthorView.as_view(), name="author"),
    path("works/<int:work_id>", catalogue.WorkView.as_view(), name="work"),
    path("books", catalogue.BooksView.as_view(), name="books"),
    path("books/enrich-new-releases", releases.EnrichNewReleasesView.as_view(), name="enrich-new-releases"),
    path("books/<path:isbn>", books.BookView.as_view(), name="book"),
]
