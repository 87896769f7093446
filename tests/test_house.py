"""What the house's rules ask of every function and class: English, and no more lines than fit on a screen."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "ddfm"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
MOST_LINES = 60  # of a function without its signature (lists of options are long) and its docstring
MOST_WORDS = 25
# A docstring begins with a verb. These words begin a noun or a clause.
NO_VERBS = {"What", "Whether", "Whoever", "Of", "How", "Where", "Within", "The", "A", "An"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


def definitions(tree: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    """Yield the functions, classes and methods of a module, but not what functions define for themselves."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node
            yield from definitions(node)
        elif isinstance(node, Function):
            yield node


def first_line_faults(node: Definition) -> list[str]:
    """Return what is wrong with the first line of a docstring."""
    text = ast.get_docstring(node)
    if text is None:
        return [] if node.name.startswith("_") else ["no docstring"]
    first = text.splitlines()[0]
    faults = []
    if not first.endswith("."):
        faults.append("the first line is no whole sentence")
    if len(first.split()) > MOST_WORDS:
        faults.append(f"more than {MOST_WORDS} words")
    if isinstance(node, Function) and first.split()[0] in NO_VERBS:
        faults.append("begins with no verb")
    return faults


def own_lines(function: Function) -> int:
    """Count a function's lines, without signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("likelihoods/")])
def test_docstrings_begin_with_one_sentence(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text())
    faults = [
        f"{module}:{node.lineno} {node.name}: {fault}"
        for node in definitions(tree)
        for fault in first_line_faults(node)
    ]
    assert not faults, "\n".join(faults)


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{module}:{node.lineno} {node.name}: {lines} lines"
        for module in MODULES
        for node in ast.walk(ast.parse((PACKAGE / module).read_text()))
        if isinstance(node, Function) and (lines := own_lines(node)) > MOST_LINES
    ]
    assert not long, "\n".join(long)


def test_long_functions_and_poor_first_lines_are_found() -> None:
    body = "\n".join(f"    x = {n}" for n in range(MOST_LINES + 1))
    (function,) = ast.parse(f'def f():\n    """What it does."""\n{body}').body
    assert isinstance(function, ast.FunctionDef)
    assert own_lines(function) == MOST_LINES + 1
    assert first_line_faults(function) == ["begins with no verb"]


def test_modules_are_found() -> None:
    assert len(MODULES) > 100
    assert "priors/network.py" in MODULES
