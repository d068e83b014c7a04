"""Lists of authors and ISBNs as people write them: with a byte order mark, odd quotes, duplicates and mistakes.

Some machines have larger lists beside the repository. Where they exist, the same tests run with them too.
"""

from pathlib import Path

from alexandria.env import BASE_DIR

OUR_FOLDER = BASE_DIR / "tests" / "data"
FOLDERS = [OUR_FOLDER, BASE_DIR.parent / "shared" / "data"]


def lists(name: str) -> list[Path]:
    """The lists with that name that exist, ours first."""
    return [folder / name for folder in FOLDERS if folder == OUR_FOLDER or (folder / name).exists()]


def folder_of(path: Path) -> str:
    """The name of its place, for the ids of parametrized tests."""
    return path.parent.parent.name
