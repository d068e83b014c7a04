"""ISBNs that a spreadsheet has turned into numbers without all their digits: `9.78E+12`."""

from collections import Counter
from collections.abc import Collection

from alexandria.common.text import counted
from enrichment.isbn.parsing import MANY_ZEROS, InvalidIsbn, Reason, parse
from enrichment.isbn.reading import read
from enrichment.isbn.tables import Row, unquoted


class Lost:
    """Counts cells that are lost, for one note for each column, or for a text that has none."""

    def __init__(self, heads: Row, *, is_table: bool = True) -> None:
        self.heads = heads
        self.is_table = is_table
        self.cells: Counter[int] = Counter()
        self.alone: Counter[int] = Counter()
        self.example: dict[int, str] = {}

    def kept(self, cells: list[str], row: Row, columns: Collection[int]) -> list[str]:
        """The cells without the lost ones, which are counted. In a text without columns, they stay."""
        kept = [cell for cell in cells if not is_lost(cell)]
        if len(kept) == len(cells):
            return kept
        if not self.is_table:
            self.cells[0] += len(cells) - len(kept)
            self.example.setdefault(0, next(filter(is_lost, cells)))
            return cells
        has_other = bool(read(kept, is_spreadsheet=True).valid)
        for column in columns:
            if is_lost(cell := unquoted(row[column])):
                self.cells[column] += 1
                self.alone[column] += not has_other
                self.example.setdefault(column, cell)
        return kept

    def notes(self) -> list[str]:
        if not self.is_table:
            return [_note(counted(self.cells[0], "value"), self.example[0])] if self.cells else []
        notes = []
        for column, count in sorted(self.cells.items()):
            name = f"the column {self.heads[column]!r}" if column < len(self.heads) else f"column {column + 1}"
            others = f" Rows without another ISBN: {self.alone[column]:,}."
            notes.append(_note(f"{counted(count, 'cell')} of {name}", self.example[column], others))
        return notes


def _note(what: str, example: str, others: str = "") -> str:
    return (
        f"{what} lost digits, because a spreadsheet turned ISBNs into numbers like {example}.{others} Export the list "
        "again, and format the column as text before a spreadsheet saves it."
    )


def is_lost(cell: str) -> bool:
    if not (cell.endswith(MANY_ZEROS) or "e+" in cell or "E+" in cell):  # most cells, and parsing them takes longer
        return False
    try:
        parse(cell)
    except InvalidIsbn as error:
        return error.reason in {Reason.DIGITS_LOST, Reason.WRONG_CHECK_DIGIT}
    return False
