"""What one unit of a job's work is called."""

from enrichment.models import Job

_UNITS = {Job.Kind.BATCH_DIRECT.value: "ISBN", Job.Kind.AUTHORS.value: "author"}


def unit_of(job: Job) -> str:
    return _UNITS.get(job.kind, "page")
