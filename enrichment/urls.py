from django.urls import path

from enrichment.api import books, catalogue, jobs, listings, lookup, queue, reconciliation

urlpatterns = [
    path("enrich/batch-direct", books.EnrichBatchView.as_view(), name="enrich-batch-direct"),
    path("authors/enrich-bibliography", listings.EnrichBibliographyView.as_view(), name="enrich-bibliography"),
    path("authors/bulk-harvest", listings.BulkHarvestView.as_view(), name="bulk-harvest"),
    path("authors", catalogue.AuthorsView.as_view(), name="authors"),
    path("authors/top", catalogue.TopAuthorsView.as_view(), name="top-authors"),
    path("authors/<int:author_id>", catalogue.AuthorView.as_view(), name="author"),
    path("works/<int:work_id>", catalogue.WorkView.as_view(), name="work"),
    path("stats", catalogue.StatsView.as_view(), name="stats"),
    path("books", catalogue.BooksView.as_view(), name="books"),
    path("books/enrich-new-releases", listings.EnrichNewReleasesView.as_view(), name="enrich-new-releases"),
    path("books/lookup", lookup.LookupView.as_view(), name="books-lookup"),
    path("enrich/queue", queue.QueueView.as_view(), name="enrich-queue"),
    path("books/<path:isbn>", books.BookView.as_view(), name="book"),
    path("quota/reconcile", reconciliation.ReconcileView.as_view(), name="quota-reconcile"),
    path("jobs", jobs.JobsView.as_view(), name="jobs"),
    path("jobs/<uuid:job_id>", jobs.JobView.as_view(), name="job"),
    path("jobs/<uuid:job_id>/items", jobs.JobItemsView.as_view(), name="job-items"),
    path("jobs/<uuid:job_id>/books", lookup.JobBooksView.as_view(), name="job-books"),
    path("jobs/<uuid:job_id>/authors", jobs.JobAuthorsView.as_view(), name="job-authors"),
    path("jobs/<uuid:job_id>/pause", jobs.JobPauseView.as_view(), name="job-pause"),
    path("jobs/<uuid:job_id>/resume", jobs.JobResumeView.as_view(), name="job-resume"),
    path("jobs/<uuid:job_id>/cancel", jobs.JobCancelView.as_view(), name="job-cancel"),
    path("jobs/<uuid:job_id>/retry", jobs.JobRetryView.as_view(), name="job-retry"),
]
