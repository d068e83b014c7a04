"""The list of small faults that the tests must notice: the tables of the TOML files beside this module.

Each table is one fault. Its name is that of the table, and its area that of the file. `file`: where it is. `old`: the
text there, which the file has exactly once. `new`: the text in its place. `breaks`: what no longer holds. `tests`: the
tests that notice it, by path below tests/, of a whole file or of one test.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from alexandria.env import BASE_DIR

TESTS = "tests"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of the list; see the module."""

    area: str
    name: str
    file: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...]

    def put_into(self, folder: Path) -> str:
        """Puts the fault into the code in the folder, and returns the text of the file before."""
        path = folder / self.file
        text = path.read_text()
        path.write_text(text.replace(self.old, self.new, 1))
        return text

    def problems(self) -> list[str]:
        """Why the fault does not fit the code and the tests as they are; empty when it does."""
        path = BASE_DIR / self.file
        found = path.read_text().count(self.old) if path.is_file() else 0
        problems = [] if found == 1 else [f"{self.file} has the text of `old` {found} times, not once."]
        return [*problems, *(f"There is no {test}." for test in self.tests if not _exists(test))]


def read_faults() -> list[Fault]:
    """All faults of the list, by the name of their file and in its order."""
    return [
        Fault(area=path.stem, name=name, **{**fields, "tests": tuple(f"{TESTS}/{test}" for test in fields["tests"])})
        for path in sorted(Path(__file__).parent.glob("*.toml"))
        for name, fields in tomllib.loads(path.read_text()).items()
    ]


def _exists(test: str) -> bool:
    path, _, function = test.partition("::")
    file = BASE_DIR / path
    return file.is_file() and (not function or f"\ndef {function}(" in file.read_text())
