"""MARC's code of a language, from what ISBNdb sends: an ISO 639 code, a locale or an English name."""

from functools import lru_cache

UNKNOWN = "und"


@lru_cache(maxsize=1000)
def marc_language(language: str) -> str:
    """The code of MARC 21 ("eng") for "en", "en_US", "eng" or "English"; UNKNOWN for anything else."""
    from iso639 import Lang  # noqa: PLC0415 (its tables take a tenth of a second of every process's start)
    from iso639.exceptions import InvalidLanguageValue  # noqa: PLC0415

    given = language.strip()
    for form in (given.lower(), given.title(), given.lower().replace("_", "-").partition("-")[0]):
        try:
            return Lang(form).pt2b or UNKNOWN  # the bibliographic code of ISO 639-2, which MARC uses
        except InvalidLanguageValue:
            continue
    return UNKNOWN
