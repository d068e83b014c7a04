"""Draws docs/architecture.svg from the import contracts in pyproject.toml: `python -m tests.architecture_map`."""

import re
import tomllib
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MAP = ROOT / "docs" / "architecture.svg"

WIDTH = 1120
MARGIN = 20
GAP = 26  # between two boxes, for the arrow
LEFT = 300  # width of the column of alexandria
APP = 500  # width of the column of the apps
RIGHT = WIDTH - LEFT - APP - 2 * MARGIN - 2 * GAP
TITLE = 44
ROW = 32
CHIP = 24
LETTER = 7.3  # width of a character in a chip

ABOUT = {
    "alexandria": "settings, URLs and everything around the apps",
    "harvest": "crons and the bulk harvest of authors",
    "enrichment": "ISBNs, the gateway to ISBNdb, books, jobs, the queue",
    "quota": "ledger, reservations, journal, pace, consumers",
    "alexandria.common": "what every app may use; it imports no app",
    "alexandria.development": "embedded servers, the sandbox, the demo",
}
COLOURS = {
    "alexandria": "#e8eaf6",
    "harvest": "#e6f4ea",
    "enrichment": "#fff4e0",
    "quota": "#e3f2fd",
    "alexandria.common": "#f1f1f1",
    "alexandria.development": "#f7f0f7",
}


class Row(NamedTuple):
    """A line of modules. A layer that is too wide for its box has several."""

    starts_a_layer: bool
    names: list[str]


class Box(NamedTuple):
    name: str
    x: int
    y: int
    width: int
    height: int
    rows: list[Row]

    @property
    def bottom(self) -> int:
        return self.y + self.height


def contracts() -> list[dict[str, Any]]:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    found: list[dict[str, Any]] = tool["importlinter"]["contracts"]
    return found


def layers_inside(package: str) -> list[list[str]]:
    """The layers of a package from its contract, highest first; its modules in one layer where it has no contract."""
    for contract in contracts():
        if contract["type"] == "layers" and contract.get("containers") == [package]:
            return [[name.strip(" ()") for name in re.split(r"[|:]", layer)] for layer in contract["layers"]]
    folder = ROOT / package.replace(".", "/")
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    return [sorted(modules - {"__init__", "migrations", "formats"})]


def app_layers() -> list[str]:
    """The apps, highest first."""
    [layers] = [c["layers"] for c in contracts() if c["type"] == "layers" and "containers" not in c]
    return list(layers)


def senders() -> list[str]:
    """The modules of the product that may send HTTP."""
    [allowed] = [c["allowed_importers"] for c in contracts() if c["type"] == "protected"]
    return list(allowed)


def wrapped(layers: list[list[str]], width: int) -> list[Row]:
    rows: list[Row] = []
    for layer in layers:
        line: list[str] = []
        starts = True
        for name in layer:
            if line and sum(chip_width(other) + 8 for other in [*line, name]) > width - 24:
                rows.append(Row(starts, line))
                line, starts = [], False
            line.append(name)
        rows.append(Row(starts, line))
    return rows


def chip_width(name: str) -> float:
    return len(name) * LETTER + 18


def boxes() -> list[Box]:
    hidden = {"migrations", "apps", "common", "development", "formats", "templatetags"}

    def rows(package: str, width: int) -> list[Row]:
        shown = [[name for name in layer if name not in hidden] for layer in layers_inside(package)]
        return wrapped([layer for layer in shown if layer], width)

    found = []
    y = MARGIN
    for package in [*app_layers(), "alexandria.common"]:
        inside = rows(package, APP)
        found.append(Box(package, MARGIN + LEFT + GAP, y, APP, TITLE + ROW * len(inside), inside))
        y = found[-1].bottom + GAP
    common = found[-1]
    found.append(Box("alexandria", MARGIN, MARGIN, LEFT, common.y - GAP - MARGIN, rows("alexandria", LEFT)))
    tools = rows("alexandria.development", LEFT)
    found.append(Box("alexandria.development", MARGIN, common.y, LEFT, TITLE + ROW * len(tools), tools))
    return found


def text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(words)}</text>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="arrow" marker-end="url(#head)"/>'


def draw_box(box: Box) -> Iterator[str]:
    yield (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="8" fill="{COLOURS[box.name]}" '
        f'stroke="#555"/>'
    )
    yield text(box.x + 12, box.y + 19, f"{box.name}/", 'class="title"')
    yield text(box.x + 12, box.y + 35, ABOUT[box.name], 'class="about"')
    y = box.y + TITLE
    for number, row in enumerate(box.rows):
        x: float = box.x + 12
        if number and row.starts_a_layer:
            yield f'<path d="M{box.x + 12} {y - 4}H{box.x + box.width - 12}" class="layer"/>'
        for name in row.names:
            sends = any(f"{sender}.".startswith(f"{box.name}.{name}.") for sender in senders())
            shape = f'x="{x:g}" y="{y}" width="{chip_width(name):g}" height="{CHIP}" rx="4"'
            yield f'<rect {shape} class="chip{" sends" if sends else ""}"/>'
            yield text(x + 9, y + 16, name, 'class="module"')
            x += chip_width(name) + 8
        y += ROW


def middle_of(box: Box, name: str) -> float:
    """The height at which a module is drawn."""
    index = next(index for index, row in enumerate(box.rows) if name in row.names)
    return box.y + TITLE + index * ROW + CHIP / 2


def outside(label: str, about: str, y: float) -> Iterator[str]:
    x = WIDTH - MARGIN - RIGHT
    shape = f'x="{x}" y="{y - 22:g}" width="{RIGHT}" height="44" rx="22"'
    yield f'<rect {shape} fill="#fff" stroke="#555" stroke-dasharray="4 3"/>'
    yield text(x + RIGHT / 2, y - 3, label, 'class="title" text-anchor="middle"')
    yield text(x + RIGHT / 2, y + 13, about, 'class="about" text-anchor="middle"')


def drawing() -> str:
    all_boxes = {box.name: box for box in boxes()}
    apps = [*app_layers(), "alexandria.common"]
    column, edge = MARGIN + LEFT + GAP, WIDTH - MARGIN - RIGHT
    parts: list[str] = []
    for box in all_boxes.values():
        parts += draw_box(box)
    for upper, lower in pairwise(apps):
        parts.append(arrow(column + 60, all_boxes[upper].bottom, column + 60, all_boxes[lower].y - 2))
    for app in apps[:-1]:
        middle = all_boxes[app].y + 22
        parts.append(arrow(MARGIN + LEFT, middle, column - 2, middle))

    enrichment, quota = all_boxes["enrichment"], all_boxes["quota"]
    y = middle_of(enrichment, "gateway")
    parts += outside("ISBNdb", "only the gateway asks it", y)
    parts.append(arrow(column + APP, y, edge - 2, y))
    y = quota.y + 22
    parts += outside("PostgreSQL", "one SQL statement per decision", y)
    parts.append(arrow(column + APP, y, edge - 2, y))

    height = max(box.bottom for box in all_boxes.values()) + 50
    legend = "Arrow: may import, or may ask. Inside a box, modules may import what is below the next line."
    parts.append(text(MARGIN, height - 20, f"{legend} Thick border: may send HTTP.", 'class="about"'))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">\n'
        "<title>The modules of Alexandria and which of them may import which</title>\n"
        "<style>.title{font-size:15px;font-weight:700;fill:#111}.about{font-size:12px;fill:#333}"
        ".module{font-size:12px;font-family:ui-monospace,Menlo,Consolas,monospace;fill:#111}"
        ".chip{fill:#fff;stroke:#999}.layer{stroke:#888;stroke-dasharray:2 3}"
        ".sends{stroke:#111;stroke-width:2.5}.arrow{stroke:#333;stroke-width:1.6}</style>\n"
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L10 5L0 10z" fill="#333"/></marker></defs>\n'
        '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    MAP.write_text(drawing())
