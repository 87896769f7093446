"""The pages, their blocks of code and their links, as the tests of this folder read them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.conftest import ROOT

PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))]
LINKED = [
    *PAGES,
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "src/ddfm/assets/natural/README.md",
]
NEEDS = re.compile(r"# needs \S")
MARKDOWN = MarkdownIt().enable("table")


@dataclass(frozen=True)
class Block:
    """A block of code on a page.

    Attributes:
        language: of the fence; empty for an indented block.
        text: without the fence.
        line: where it begins, from 1.
    """

    language: str
    text: str
    line: int

    @property
    def lines(self) -> list[str]:
        """Its lines, without empty ones and whole-line comments."""
        return [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]


@cache
def tokens(page: str) -> list[Token]:
    """Return a page as markdown-it reads it, without a head of YAML."""
    text = (ROOT / page).read_text(encoding="utf-8")
    head = re.match(r"---\n.*?\n---\n", text, re.DOTALL)
    return MARKDOWN.parse("\n" * text[: head.end()].count("\n") + text[head.end() :] if head else text)


def blocks(page: str) -> list[Block]:
    """Return all blocks of code, in order."""
    return [
        Block(token.info.strip(), token.content, (token.map or [0])[0] + 1)
        for token in tokens(page)
        if token.type in ("fence", "code_block")
    ]


def inline(page: str) -> Iterator[Token]:
    """Yield what stands in the lines of text: words, code, links."""
    for token in tokens(page):
        yield from token.children or ()


def links(page: str) -> list[str]:
    """Return the targets of all links and pictures."""
    found = ((token.attrGet("href"), token.attrGet("src")) for token in inline(page))
    return [str(target) for pair in found for target in pair if target]


def anchors(path: str) -> set[str]:
    """Return what a link may name behind #: headings, or definitions of a module."""
    if path.endswith(".py"):
        named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        return {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, named)}
    found: set[str] = set()
    for before, token in zip(tokens(path), tokens(path)[1:], strict=False):
        if before.type == "heading_open":
            words = "".join(part.content for part in token.children or ())
            found.add(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
    return found


def python_of(page: str) -> Mapping[int, str]:
    """Return the blocks of Python by the number of their first line."""
    return {block.line: block.text for block in blocks(page) if block.language == "python"}
