"""Lists of authors and ISBNs as people keep them: with a byte order mark, odd quotes, duplicates and mistakes.

Larger ones lie beside the repository on some machines. Where they exist, the same tests run with them too.
"""

from pathlib import Path

from alexandria.env import BASE_DIR

OUR_FOLDER = BASE_DIR / "tests" / "data"
FOLDERS = [OUR_FOLDER, BASE_DIR.parent / "shared" / "data"]


def lists(name: str) -> list[Path]:
    """The lists of that name that exist here; ours comes first."""
    return [folder / name for folder in FOLDERS if folder == OUR_FOLDER or (folder / name).exists()]


def folder_of(path: Path) -> str:
    """For the ids of parametrized tests."""
    return path.parent.parent.name
