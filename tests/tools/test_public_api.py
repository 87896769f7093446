"""No public name, signature or option changes unseen, and pages show public names only."""

from __future__ import annotations

import ast
import re
from difflib import unified_diff

from tests.conftest import ROOT
from tools.public_api import LISTED, public_api, public_names

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.py")]


def test_the_public_interface_is_the_one_that_is_listed() -> None:
    before, now = LISTED.read_text().splitlines(), public_api().splitlines()
    change = "\n".join(unified_diff(before, now, "listed", "now", lineterm="", n=2))
    advice = (
        "The public interface has changed. docs/develop/release.md says what may change in which version. "
        "If it is meant: run `python -m tools.public_api`, and name the change in CHANGELOG.md."
    )
    assert not change, f"{advice}\n{change}"


def test_the_list_has_what_users_call() -> None:
    lines = LISTED.read_text().splitlines()
    assert {"fuse(", "class FusionResult(", "    to_array() -> NDArray[Any]"} <= set(lines)
    assert {"    steps: int | None = None,", "ddfm fuse", "    -o, --output = None"} <= set(lines)
    assert not [line for line in lines if " at 0x" in line or "<" in line]


def imported(code: str) -> set[tuple[str, str]]:
    """Return the modules of ddfm and the names that code imports from them."""
    return {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ddfm"
        for alias in node.names
    }


def test_pages_import_public_names_only() -> None:
    public = {(module, name) for module, names in public_names().items() for name in names}
    shown: set[tuple[str, str]] = set()
    for page in PAGES:
        text = page.read_text()
        code = [text] if page.suffix == ".py" else re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
        for block in code:
            shown |= imported(block)
    assert ("ddfm", "fuse") in shown
    assert not shown - public
