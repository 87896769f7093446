"""No circle of imports, those for type checkers included, and no function that is longer than a screen.

import-linter holds the layers (`make lint`).
"""

from __future__ import annotations

import ast
import tomllib
from graphlib import TopologicalSorter

import grimp

from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "ddfm"
MOST_LINES = 60  # of a function without its signature (lists of options are long) and its docstring
Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("ddfm")
    # ddfm/__init__.py names modules of all layers and loads them when they are first asked for.
    modules = sorted(graph.modules - {"ddfm"})
    TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) - {"ddfm"} for module in modules}
    ).prepare()  # raises CycleError, which names the circle
    assert len(modules) > 100


def test_the_page_has_the_layers_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    page = (ROOT / "docs" / "develop" / "architecture.md").read_text()
    assert "```text\n" + "\n".join(layers) + "\n```" in page


def own_lines(function: Function) -> int:
    """Count a function's lines, without signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}: {lines} lines"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, Function) and (lines := own_lines(node)) > MOST_LINES
    ]
    assert not long, "\n".join(long)


def test_lines_are_counted_without_signature_and_docstring() -> None:
    (function,) = ast.parse(
        'def f(\n    a,\n):\n    """Do.\n\n    Twice.\n    """\n    a = 1\n    return a'
    ).body
    assert isinstance(function, ast.FunctionDef)
    assert own_lines(function) == 2
