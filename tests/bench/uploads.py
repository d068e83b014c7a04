"""Measures what typical and hostile uploads cost: `python -m tests.bench.uploads [way …]`.

Each upload is read in a process of its own, from the bytes of the request to the checked list. The table has the CPU
seconds, the memory at its highest and what is left of it afterwards, in MB above what the process had with the bytes
of the body, and what became of the upload. The process that reads a workbook counts. Hostile files have 3.9 MB unless
they say something else. It exits with 1 if a hostile one costs more than MAX_SECONDS or takes more than MAX_TIMES its
size. The exports are in `EXPORTS`, if the machine has them.
"""

import gc
import io
import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

# Reading needs no database. Every value is set, so that no .env on this machine has an effect.
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "alexandria.settings",
    "DEBUG": "on",
    "DATABASE_URL": "postgres://nobody:none@127.0.0.1:1/none",
    "REDIS_URL": "redis://127.0.0.1:1/0",
}

from alexandria.env import BASE_DIR
from enrichment.isbn.parsing import with_check_digit

SIZE = 3_900_000
MAX_SECONDS = 1.0
MAX_TIMES = 12
EXPORTS = BASE_DIR.parent / "shared" / "data" / "exports"
MANY = 100_000
SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'
)


def repeated(piece: str | bytes, size: int = SIZE) -> bytes:
    data = piece.encode() if isinstance(piece, str) else piece
    return data * (size // len(data))


def isbns_from(first: int, many: int) -> list[str]:
    return [with_check_digit(f"978{number:09}0") for number in range(first, first + many)]


def hyphened(isbn: str) -> str:
    return f"{isbn[:3]}-{isbn[3]}-{isbn[4:7]}-{isbn[7:12]}-{isbn[12]}"


def isbn_lines() -> bytes:
    return "\n".join(isbns_from(1, MANY)).encode()


def hyphened_lines() -> bytes:
    return "\n".join(map(hyphened, isbns_from(1, MANY))).encode()


def table() -> bytes:
    rows = (f'Book {at},"Author, {at}",{isbn},2020,Publisher {at}' for at, isbn in enumerate(isbns_from(1, 60_000)))
    return "\n".join(["Title,Author,ISBN,Year,Publisher", *rows]).encode()


def table_without_heads() -> bytes:
    rows = (f"Book {at};Author {at};{isbn};2020;{at}" for at, isbn in enumerate(isbns_from(1, 60_000)))
    return "\n".join(rows).encode()


def workbook(sheet: str, **members: str) -> bytes:
    kinds = {
        "workbook": "sheet.main",
        "worksheets/sheet1": "worksheet",
        "sharedStrings": "sharedStrings",
        "styles": "styles",
    }
    mime = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    types = "".join(
        f'<Override PartName="/xl/{name}.xml" ContentType="{mime}.{kind}+xml"/>' for name, kind in kinds.items()
    )
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f"{types}</Types>",
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{relation}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relation}"><sheets>'
        '<sheet name="A" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{relation}/worksheet" Target="worksheets/sheet1.xml"/>'
        f'<Relationship Id="r2" Type="{relation}/sharedStrings" Target="sharedStrings.xml"/>'
        f'<Relationship Id="r3" Type="{relation}/styles" Target="styles.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": SHEET.format(sheet),
        "xl/sharedStrings.xml": f'<sst xmlns="{main}">{members.get("strings", "")}</sst>',
        "xl/styles.xml": f'<styleSheet xmlns="{main}">{members.get("styles", "")}</styleSheet>',
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def isbn_workbook() -> bytes:
    return workbook("".join(f"<row><c><v>{isbn}</v></c></row>" for isbn in isbns_from(1, MANY)))


def text_workbook() -> bytes:
    """A table of 20,000 books with heads and five columns, all texts."""
    rows = [line.replace('"', "").split(",")[:5] for line in table().decode().splitlines()[:20_000]]
    cells = [cell for row in rows for cell in row]
    strings = "".join(f"<si><t>{escape(cell)}</t></si>" for cell in cells)
    at, cell = count(), '<c t="s"><v>{}</v></c>'
    sheet = "".join(f"<row>{''.join(cell.format(next(at)) for _ in row)}</row>" for row in rows)
    return workbook(sheet, strings=strings)


def attributes(many: int) -> str:
    return " ".join(f"a{at}=''" for at in range(many))


UNPACKED = 45_000_000
WORKBOOKS: dict[str, Callable[[], bytes]] = {
    "100,000 ISBNs": isbn_workbook,
    "20,000 books": text_workbook,
    "empty cells": lambda: workbook(f"<row>{'<c/>' * 1000}</row>" * (UNPACKED // 4011)),
    "empty rows": lambda: workbook("<row/>" * (UNPACKED // 6)),
    "numbers": lambda: workbook("<row><c><v>1</v></c></row>" * (UNPACKED // 26)),
    "far cells": lambda: workbook('<row><c r="XFD1"><v>1</v></c></row>' * (UNPACKED // 39)),
    "far row": lambda: workbook('<row r="1048576"><c r="A1048576"><v>1</v></c></row>'),
    "shared strings": lambda: workbook("", strings="<si/>" * (UNPACKED // 5)),
    "long strings": lambda: workbook(
        "<row><c t='s'><v>0</v></c></row>" * 300_000, strings=f"<si><t>{'1 ' * 10_000_000}</t></si>"
    ),
    "styles": lambda: workbook("", styles="<a/>" * (UNPACKED // 4)),
    "one text in many cells": lambda: workbook(
        ("<row>" + "<c t='s'><v>0</v></c>" * 100 + "</row>") * 210, strings=f"<si><t>{'x' * 200_000}</t></si>"
    ),
    "attributes": lambda: workbook("", styles=f"<a {attributes(4_000_000)}/>"),
    "bomb": lambda: workbook("<row/>" * 100_000_000),
}
TEXTS: dict[str, Callable[[], bytes]] = {
    "100,000 ISBNs": isbn_lines,
    "100,000 with hyphens": hyphened_lines,
    "60,000 books": table,
    "60,000 without heads": table_without_heads,
    "commas": lambda: repeated(","),
    "1,1,…": lambda: repeated("1,"),
    "1,1,… half": lambda: repeated("1,", SIZE // 2),
    "1 1 1": lambda: repeated("1 "),
    "1 1 1 in lines": lambda: repeated("1 " * 9 + "1\n"),
    "; and tabs": lambda: repeated("1;1\t"),
    "; and tabs half": lambda: repeated("1;1\t", SIZE // 2),
    "rows of ; and tabs": lambda: repeated("1;1\t" * 5 + "\n"),
    "one long line": lambda: repeated("a"),
    "one line of digits": lambda: repeated("9"),
    "a line of ISBNs": lambda: repeated("978-0-441-17271-9 "),
    "ISBNs and commas": lambda: repeated("9780441172719,"),
    "wrong ISBNs": lambda: repeated("9780441172718,x\n"),
    "words and ISBNs": lambda: repeated("x 0-441-17271-7 y,"),
    "rows of numbers": lambda: repeated("1234567890123,2345678901,345678901\n"),
    "open quotes": lambda: repeated('"'),
    "an open quote": lambda: b'a,b\n"' + repeated("a,b\n"),
    "quotes in lines": lambda: repeated('"a,b\n'),
    "empty lines": lambda: repeated("\n"),
    "lines of 1": lambda: repeated("1\n"),
    "separators": lambda: repeated("aa\u2028"),
    "NULs": lambda: repeated(b"\0"),
    "emoji": lambda: repeated("😀"),
    "no UTF-8": lambda: repeated(b"\x81\xff;"),
}
JSONS: dict[str, Callable[[], bytes]] = {
    "100,000 ISBNs": lambda: json.dumps(isbns_from(1, MANY)).encode(),
    "100,000 with hyphens": lambda: json.dumps([hyphened(isbn) for isbn in isbns_from(1, MANY)]).encode(),
    "million strings": lambda: b"[" + repeated('"a",', 4_000_000) + b'"a"]',
    "100,000 strings": lambda: b"[" + repeated('"aaaaaaaaa 1234567890 9 8 7",', 2_900_000) + b'"a"]',
    "commas": lambda: repeated(","),
    "1,1,…": lambda: b"[" + repeated("1,") + b"1]",
    "half a million": lambda: b"[" + repeated("1,", 900_000) + b"1]",
    "half a million strings": lambda: b"[" + repeated('"aaaa",', 3_100_000) + b"1]",
    "deep lists": lambda: repeated("["),
    "deep objects": lambda: repeated('{"a":'),
    "empty lists": lambda: b"[" + repeated("[],") + b"1]",
    "empty objects": lambda: b"[" + repeated("{},", 700_000) + b"1]",
    "one long string": lambda: b'["' + repeated("1 ") + b'"]',
    "one long number": lambda: b"[" + repeated("1") + b"]",
    "escapes": lambda: b'["' + repeated("\\u0031 ") + b'"]',
    "ISBNs in a string": lambda: b'["' + repeated("978-0-441-17271-9 ") + b'"]',
}
AUTHORS: dict[str, Callable[[], bytes]] = {
    "20,000 names": lambda: "\n".join(f"Author {'abcdefghij'[at % 10]}{at}" for at in range(20_000)).encode(),
    **{name: TEXTS[name] for name in TEXTS if not name[0].isdigit() or name.startswith("1")},
    "names": lambda: "\n".join(f"Name {at}" for at in range(300_000)).encode(),
    "names in a cell": lambda: repeated("Ann Lee & Bob Ray; "),
}


def serialized(body: Any) -> str:
    from enrichment.serializers.books import BatchRequestSerializer

    wanted = BatchRequestSerializer(data=body, context={"as_job": True})
    if wanted.is_valid():
        given = wanted.validated_data["given"]
        return f"{given.requested:,} values, {len(given.valid):,} valid"
    return str(wanted.errors)


def as_text(data: bytes) -> Callable[[], str]:
    from enrichment.api.lists import AnyFileParser

    return lambda: serialized({"isbns": AnyFileParser().parse(io.BytesIO(data))})


def as_json(data: bytes) -> Callable[[], str]:
    from rest_framework.settings import api_settings

    parser: Any = api_settings.DEFAULT_PARSER_CLASSES[0]
    return lambda: serialized(parser().parse(io.BytesIO(data)))


def as_isbndb(data: bytes) -> Callable[[], str]:
    from django.test import RequestFactory
    from rest_framework.request import Request

    from enrichment.api.isbndb.parameters import isbns_of

    request = RequestFactory().post("/isbndb/books", data, content_type="application/json")
    return lambda: f"{isbns_of(Request(request))[0]} values"


def in_form(data: bytes, module: str, name: str) -> Callable[[], str]:
    from importlib import import_module

    from django.core.files.uploadedfile import SimpleUploadedFile
    from django.test import RequestFactory

    fields = {"file": SimpleUploadedFile("list", data), "max_pages": "1"}
    request = RequestFactory().post("/admin/", fields)
    form: Any = getattr(import_module(module), name)

    def read() -> str:
        filled = form(request.POST, request.FILES)
        return "accepted" if filled.is_valid() else str(filled.errors.as_data())

    return read


WAYS: dict[str, tuple[dict[str, Callable[[], bytes]], Callable[[bytes], Callable[[], str]]]] = {
    "text": (TEXTS, as_text),
    "json": (JSONS, as_json),
    "isbndb": (JSONS, as_isbndb),
    "form": (
        {**TEXTS, **WORKBOOKS, "10 MB of 1": lambda: repeated("1\n", 10_000_000)},
        lambda data: in_form(data, "enrichment.admin.lists", "IsbnsForm"),
    ),
    "authors": (
        {**AUTHORS, "10 MB of 1": lambda: repeated("1\n", 10_000_000)},
        lambda data: in_form(data, "enrichment.admin.author_lists", "AuthorsForm"),
    ),
    "exports": ({}, as_text),
}
if EXPORTS.exists():
    WAYS["exports"][0].update({path.name: path.read_bytes for path in sorted(EXPORTS.iterdir())})


def memory(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1000


def measure(way: str, name: str) -> dict[str, Any]:
    import django

    django.setup()
    files, prepare = WAYS[way]
    with suppress(Exception):
        prepare(b"1")()  # imports and caches
    data = files[name]()
    read = prepare(data)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before, began = memory("VmRSS"), time.process_time()
    try:
        said = read()
    except Exception as error:  # noqa: BLE001 (whatever the service would answer)
        said = f"{type(error).__name__}: {error}"
    reader = resource.getrusage(resource.RUSAGE_CHILDREN)  # of a workbook
    return {
        "seconds": time.process_time() - began + reader.ru_utime + reader.ru_stime,
        "megabytes": len(data) / 1e6,
        "highest": memory("VmHWM") - before + reader.ru_maxrss / 1000,
        "left": memory("VmRSS") - before,
        "said": " ".join(said.split())[:90],
    }


def run(ways: list[str]) -> bool:
    good = True
    for way in ways or list(WAYS):
        print(f"{way + ':':26}{'MB':>6}{'CPU s':>8}{'highest':>9}{'left':>7}  outcome")
        for name in WAYS[way][0]:
            command = [sys.executable, "-m", "tests.bench.uploads", "--one", way, name]
            answer = subprocess.run(command, cwd=BASE_DIR, env=os.environ, capture_output=True, text=True, check=True)
            found = json.loads(answer.stdout.splitlines()[-1])
            bad = found["seconds"] > MAX_SECONDS or found["highest"] > MAX_TIMES * max(found["megabytes"], 1)
            good &= not bad
            print(
                f"  {name:24}{found['megabytes']:6.1f}{found['seconds']:8.2f}{found['highest']:9.1f}"
                f"{found['left']:7.1f}{'!' if bad else ' '} {found['said']}",
                flush=True,
            )
    return good


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(*sys.argv[2:4])))
    else:
        sys.exit(0 if run(sys.argv[1:]) else 1)
