from django.urls import path

from enrichment.api import books, jobs, reconciliation

urlpatterns = [
    path("enrich/batch-direct", books.EnrichBatchView.as_view(), name="enrich-batch-direct"),
    path("books/<path:isbn>", books.BookView.as_view(), name="book"),
    path("quota/reconcile", reconciliation.ReconcileView.as_view(), name="quota-reconcile"),
    path("jobs", jobs.JobsView.as_view(), name="jobs"),
    path("jobs/<uuid:job_id>", jobs.JobView.as_view(), name="job"),
    path("jobs/<uuid:job_id>/items", jobs.JobItemsView.as_view(), name="job-items"),
    path("jobs/<uuid:job_id>/cancel", jobs.JobCancelView.as_view(), name="job-cancel"),
    path("jobs/<uuid:job_id>/retry", jobs.JobRetryView.as_view(), name="job-retry"),
]
