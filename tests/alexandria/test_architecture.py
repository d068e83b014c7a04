"""The structure of the code, beyond the import contracts in pyproject.toml (`lint-imports`)."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from alexandria.env import BASE_DIR

PACKAGES = ["alexandria", "quota", "enrichment", "harvest"]
INIT_FILES = [path for name in [*PACKAGES, "tests"] for path in sorted((BASE_DIR / name).rglob("__init__.py"))]


def is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_export_list(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]


@pytest.mark.parametrize("path", INIT_FILES, ids=lambda path: str(path.relative_to(BASE_DIR).parent))
def test_an_init_file_has_only_a_docstring_imports_and_all(path: Path) -> None:
    others = [
        ast.unparse(node)
        for node in ast.parse(path.read_text()).body
        if not (isinstance(node, ast.Import | ast.ImportFrom) or is_docstring(node) or is_export_list(node))
    ]
    assert others == []


def test_no_module_imports_itself_through_others() -> None:
    """Counts every import: inside functions, under TYPE_CHECKING, and of a package by its own modules."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"There is an import cycle: {' <- '.join(error.args[1])}")
