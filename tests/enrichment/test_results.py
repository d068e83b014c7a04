"""The results of listings name their fields once; the serializers only describe them for the schema."""

from datetime import date
from typing import Any

import pytest

from enrichment.serializers.authors import BibliographySerializer
from enrichment.serializers.releases import NewReleasesSerializer
from enrichment.services.bibliographies import Bibliography, walk_of
from enrichment.services.enrich import FailedIsbn
from enrichment.services.releases import NewReleases, Wanted

MONTHS = Wanted(date(2026, 1, 1), date(2026, 2, 1), max_pages_per_month=1)


@pytest.mark.parametrize(
    ("result", "serializer"),
    [
        (Bibliography("Frank Herbert", walk_of("Frank Herbert", max_pages=1)), BibliographySerializer),
        (NewReleases(MONTHS, MONTHS.walk(), "reader"), NewReleasesSerializer),
    ],
)
def test_the_schema_describes_exactly_the_fields_of_a_result(result: Any, serializer: type[Any]) -> None:
    result.progress.errors.append(FailedIsbn("9780441013593", "No title."))
    shown = serializer(result).data
    assert shown == result.as_dict()
    assert set(shown) == set(serializer().fields)
    assert shown["errors"] == [{"isbn": "9780441013593", "error": "No title."}]
