"""Every docstring begins with one short sentence: a verb and its object."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "ddfm"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
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


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_begin_with_one_sentence(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text())
    faults = [
        f"{module}:{node.lineno} {node.name}: {fault}"
        for node in definitions(tree)
        for fault in first_line_faults(node)
    ]
    assert not faults, "\n".join(faults)


def test_poor_first_lines_are_found() -> None:
    (function,) = ast.parse('def f():\n    """What it does\n    and more."""').body
    assert isinstance(function, ast.FunctionDef)
    assert first_line_faults(function) == ["the first line is no whole sentence", "begins with no verb"]


def test_modules_are_found() -> None:
    assert len(MODULES) > 100
    assert "priors/network.py" in MODULES
