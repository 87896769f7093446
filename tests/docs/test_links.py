"""Links lead somewhere: to files, headings and definitions that exist."""

from __future__ import annotations

import posixpath

import pytest

from tests.conftest import ROOT
from tests.docs.pages import LINKED, anchors, links


def faults(page: str, targets: list[str]) -> list[str]:
    """Return the links that lead nowhere."""
    found = []
    for target in targets:
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
        if not (ROOT / path).exists():
            found.append(f"{page}: {target}: no such file")
        elif anchor and anchor not in anchors(path):
            found.append(f"{page}: {target}: no such heading or definition")
    return found


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page: str) -> None:
    assert not (found := faults(page, links(page))), "\n".join(found)


def test_dead_links_are_found() -> None:
    dead = ["nowhere.md", "README.md#nothing", "src/ddfm/errors.py#Nobody"]
    alive = ["README.md#install", "src/ddfm/errors.py#InputError", "docs", "https://example.org"]
    assert len(faults("README.md", dead + alive)) == 3
    assert len(links("README.md")) == (ROOT / "README.md").read_text().count("](")  # none is overlooked
