from django.urls import path, re_path

from enrichment.api.isbndb import views

urlpatterns = [
    path("book/<path:isbn>", views.BookView.as_view(), name="isbndb-book"),
    path("books", views.BooksView.as_view(), name="isbndb-books"),
    path("books/<path:query>", views.QueriedView.as_view(), name="isbndb-query"),
    path("author/<path:name>", views.AuthorView.as_view(), name="isbndb-author"),
    path("publisher/<path:name>", views.NamedView.as_view(kind="publisher"), name="isbndb-publisher"),
    path("subject/<path:name>", views.NamedView.as_view(kind="subject"), name="isbndb-subject"),
    path("search/books", views.SearchView.as_view(), name="isbndb-search"),
    path("key", views.KeyView.as_view(), name="isbndb-key"),
    path("stats", views.StatsView.as_view(), name="isbndb-stats"),
    re_path("", views.NoSuchPath.as_view(), name="isbndb-nothing"),
]
