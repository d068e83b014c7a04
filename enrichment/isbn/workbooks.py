"""Reads the cells of an Excel workbook (xlsx) in bounded memory and time."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from xml.etree.ElementTree import ParseError

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from enrichment.isbn.tables import FileUnreadable, Row

MAX_UNPACKED_BYTES = 50 * 1024 * 1024
MAX_CELLS = 300_000
"""Fewer than of a text: reading a cell takes 17 microseconds. Of all sheets together, without the empty ones at the end
of a row. A row without any counts as one."""

MAX_TAGS = 1_000_000
"""Of all members. A cell has up to four, and its text four more where it stands first. openpyxl takes up to 14
microseconds for one, reads all texts and formats before the first row, and a row as a whole."""

_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"


def is_workbook(data: bytes) -> bool:
    """Whether it is an xlsx file, or another packed one. Raises FileUnreadable for the xls files of old Excels."""
    if data.startswith(_OLE):
        raise FileUnreadable("This is a file of an old Excel (xls). Save it as xlsx or CSV.")
    return data.startswith(_ZIP)


def sheets_of(data: bytes) -> Iterator[Iterator[Row]]:
    """The rows of each sheet, as text, one at a time. A whole number has no `.0`. Raises FileUnreadable."""
    with _readable():
        _check_size(data)
        workbook = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    return _counted(workbook.worksheets)


def _counted(sheets: list[Any]) -> Iterator[Iterator[Row]]:
    left = MAX_CELLS

    def rows(sheet: Any) -> Iterator[Row]:
        nonlocal left
        sheet.reset_dimensions()  # what the file says about its size can be wrong
        with _readable():
            for row in sheet.iter_rows(values_only=True):
                empty = next((at for at, cell in enumerate(reversed(row)) if cell is not None), len(row))
                left -= len(row) - empty or 1
                if left < 0:
                    raise FileUnreadable(f"The workbook has more than {MAX_CELLS:,} cells. Save it as CSV.")
                yield [_text(cell) for cell in row[: len(row) - empty]]

    return map(rows, sheets)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, InvalidFileException, ParseError, KeyError, ValueError, TypeError, OSError) as error:
        raise FileUnreadable("This is not an Excel workbook (xlsx), or it is damaged.") from error


def _check_size(data: bytes) -> None:
    """A small file can unpack to gigabytes. A member that is longer than it says is an error when it is read."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED_BYTES:
            raise FileUnreadable(f"The workbook unpacks to more than {MAX_UNPACKED_BYTES // 1024**2} MiB.")
        tags = 0
        for member in archive.infolist():
            with archive.open(member) as file:
                for chunk in iter(partial(file.read, 64 * 1024), b""):
                    tags += chunk.count(b"<")
                    if tags > MAX_TAGS:
                        raise FileUnreadable("The workbook has too many cells and texts. Save it as CSV.")


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell)
