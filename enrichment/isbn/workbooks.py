"""Reads the cells of an Excel workbook (xlsx), in a process of its own with a bound of memory and time.

A file of a few MB can have millions of texts, formats and attributes, which openpyxl reads as a whole.
"""

import io
import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby
from operator import itemgetter
from subprocess import PIPE, Popen

from alexandria.common.turns import take_turn
from enrichment.isbn import workbook_reader
from enrichment.isbn.tables import FileUnreadable, Row

MAX_UNPACKED_BYTES = 50 * 1024 * 1024
MAX_CELLS = 300_000
"""Fewer than of a text: reading a cell takes 17 microseconds. Of all sheets together, without the empty ones at the end
of a row. A row without any counts as one."""

MAX_TEXT = MAX_UNPACKED_BYTES
"""Of all cells. A text that a file has once can stand in each of them."""

MAX_TAGS = 1_000_000
"""Of all members. A cell has up to four, and its text four more where it stands first. openpyxl takes up to 14
microseconds for one, reads all texts and formats before the first row, and a row as a whole."""

_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError)
"""What a damaged archive raises, or one with a password."""
_DAMAGED = "This is not an Excel workbook (xlsx), or it is damaged."
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"


def is_workbook(data: bytes) -> bool:
    """Whether it is an xlsx file, or another packed one. Raises FileUnreadable for the xls files of old Excels."""
    if data.startswith(_OLE):
        raise FileUnreadable("This is a file of an old Excel (xls). Save it as xlsx or CSV.")
    return data.startswith(_ZIP)


@contextmanager
def sheets_of(data: bytes) -> Iterator[Iterator[Iterator[Row]]]:
    """The rows of each sheet, as text, one at a time. A whole number has no `.0`. They raise FileUnreadable.

    In a web request it takes a turn, or raises TooManyAtOnce: a small file can take seconds.
    """
    take_turn()
    check_size(data)
    command = [sys.executable, "-I", "-W", "ignore", workbook_reader.__file__]
    with Popen(command, env={}, stdin=PIPE, stdout=PIPE) as process:  # it parses what strangers send: it gets no secret
        try:
            with suppress(BrokenPipeError), process.stdin as stdin:  # type: ignore[union-attr]
                stdin.write(data)
            yield (map(itemgetter(1), rows) for _, rows in groupby(_read(process), itemgetter(0)))
        finally:
            process.kill()


def _read(process: Popen[bytes]) -> Iterator[tuple[int, Row]]:
    """What the process has read: the number of the sheet, and a row."""
    cells, text = MAX_CELLS, MAX_TEXT
    while line := process.stdout.readline(text + 1):  # type: ignore[union-attr]
        text -= len(line)
        if text < 0:
            raise FileUnreadable("The workbook has too much text. Save it as CSV.")
        if not line.endswith(b"\n"):
            break  # the process was killed
        sheet, row = json.loads(line)
        cells -= len(row) or 1
        if cells < 0:
            raise FileUnreadable(f"The workbook has more than {MAX_CELLS:,} cells. Save it as CSV.")
        yield sheet, row
    ended = process.wait()
    if ended == workbook_reader.EXIT_DAMAGED:
        raise FileUnreadable(_DAMAGED)
    if ended < 0 or ended == workbook_reader.EXIT_NO_MEMORY:
        raise FileUnreadable("The workbook takes too much time or memory to read. Save it as CSV.")
    if ended:
        raise RuntimeError(f"The process that reads a workbook ended with {ended}.")


def check_size(data: bytes) -> None:
    """Raises FileUnreadable for what is no archive, or too large. A small file can unpack to gigabytes.

    A member that is longer than it says is an error when it is read.
    """
    tags = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED_BYTES:
                raise FileUnreadable(f"The workbook unpacks to more than {MAX_UNPACKED_BYTES // 1024**2} MiB.")
            for member in archive.infolist():
                if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                    raise FileUnreadable(_DAMAGED)  # others can ask for gigabytes of memory
                with archive.open(member) as file:
                    for chunk in iter(partial(file.read, 64 * 1024), b""):
                        tags += chunk.count(b"<")
                        if tags > MAX_TAGS:
                            raise FileUnreadable("The workbook has too many cells and texts. Save it as CSV.")
    except _UNREADABLE as error:
        raise FileUnreadable(_DAMAGED) from error
