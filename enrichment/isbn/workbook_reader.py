"""A program that reads a workbook from standard input. `enrichment.isbn.workbooks` starts it.

It writes a line of JSON for each row: the number of the sheet, and the cells as text without the empty ones at the end.
Exit codes: 0 all is read, 3 it is no workbook or a damaged one, 4 the memory is not enough. The system kills it at the
end of its time.
"""

import io
import json
import resource
import sys
from itertools import dropwhile
from xml.etree.ElementTree import ParseError
from xml.parsers.expat import errors

MAX_MEMORY = 384 * 1024**2
"""Bytes of the address space. A workbook at the limits of `workbooks` is read in less than two thirds of it."""
MAX_SECONDS = 30
"""Of CPU time."""
EXIT_DAMAGED, EXIT_NO_MEMORY = 3, 4


def main() -> int:
    limit(resource.RLIMIT_AS, MAX_MEMORY)
    limit(resource.RLIMIT_CPU, MAX_SECONDS)
    try:
        write_rows(sys.stdin.buffer.read())
    except MemoryError:
        return EXIT_NO_MEMORY
    except ParseError as error:
        return EXIT_NO_MEMORY if error.code == errors.codes[errors.XML_ERROR_NO_MEMORY] else EXIT_DAMAGED
    except Exception:  # noqa: BLE001 (openpyxl raises what a damaged file makes it stumble over)
        return EXIT_DAMAGED
    return 0


def limit(what: int, most: int) -> None:
    """Sets a limit of this process, unless the one that it has is lower."""
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def write_rows(data: bytes) -> None:
    from openpyxl import load_workbook  # noqa: PLC0415 (half a second and 40 MB, which who starts this can save)

    workbook = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    for number, sheet in enumerate(workbook.worksheets):
        sheet.reset_dimensions()  # what the file says about its size can be wrong
        for row in sheet.iter_rows(values_only=True):
            filled = list(dropwhile(lambda cell: cell is None, reversed(row)))[::-1]
            print(json.dumps([number, [_text(cell) for cell in filled]]))


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell)


if __name__ == "__main__":
    sys.exit(main())
