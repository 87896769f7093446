"""Sentences of docs and docstrings are short enough to be read once."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from tests.conftest import ROOT

MOST_WORDS = 25  # 20 are the aim
# Sentences there are still to be shortened.
LATER = ("README.md", "docs/research/algorithm.md", "docs/reference/tasks.md")
PAGES = ("*.md", "docs/**/*.md", "benchmarks/*.md", "src/ddfm/**/*.md", "src/ddfm/**/*.py")
FOUND = sorted(path.relative_to(ROOT).as_posix() for pattern in PAGES for path in ROOT.glob(pattern))
MEASURED = [name for name in FOUND if not name.startswith(LATER)]

MARKDOWN = MarkdownIt().enable("table")
# An argument's description is a sentence of its own.
ARGUMENT = re.compile(r"\n    \w[\w, *]*: (.*(?:\n {8}.*)*)")
END = re.compile(r"(?<=[.!?])[)\"]*\s+(?=[\"(]*[A-Z0-9])|(?<=[:;])\s+")
WORD = re.compile(r"[^\w\s]*(?:[aA]|[^\W\d_](?:[^\W_]|['-])*[^\W\d_])[^\w\s]*")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs and items of Markdown, without their code, by the number of their first line."""
    for before, token in pairwise(MARKDOWN.parse(text)):
        if before.type == "paragraph_open" and token.type == "inline" and token.map is not None:
            parts = {"code_inline": "Code", "softbreak": " "}
            yield (
                token.map[0] + 1,
                "".join(parts.get(part.type, part.content) for part in token.children or ()),
            )


def words(sentence: str) -> int:
    """Count the words; formulas and numbers are none."""
    return sum(bool(WORD.fullmatch(token)) for token in sentence.split())


def long_sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line of every sentence that is too long; colons and semicolons end one, too."""
    for line, paragraph in prose(text):
        for sentence in END.split(paragraph):
            if words(sentence) > MOST_WORDS:
                yield line, f"{words(sentence)} words: {sentence[:90]}"


def texts(name: str) -> Iterator[tuple[int, str]]:
    """Yield a page, or the docstrings of a module, by the number of the line that they begin in."""
    text = (ROOT / name).read_text()
    if not name.endswith(".py"):
        yield 1, text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring is not None:
                yield getattr(node, "lineno", 0) + 1, ARGUMENT.sub(r"\n\n- \1", docstring)


@pytest.mark.parametrize("name", MEASURED)
def test_sentences_are_short(name: str) -> None:
    found = [
        f"{name}:{start + line - 1}: {fault}"
        for start, text in texts(name)
        for line, fault in long_sentences(text)
    ]
    assert not found, "\n".join(found)


def test_long_sentences_are_found() -> None:
    long = " ".join(["word"] * (MOST_WORDS + 1))
    no_prose = f"# {long}\n\n```\n{long}\n```\n\n| a |\n| --- |\n| {long} |\n\n"
    text = f"{no_prose}Short.\nAlso `{long}` is. But [{long}](x) is not.\n\n- {long}\n"
    assert [line for line, _ in long_sentences(text)] == [11, 14]
    assert words("x_k = m_k + 3 of (a 2x2 window), that is all.") == 6
    assert len(END.split("One: two; three. Four (by 1 % e.g. so).")) == 4
    assert len(list(long_sentences(f"{long}; {long}"))) == 2


def test_pages_and_modules_are_found() -> None:
    assert len(MEASURED) > 80
    assert {"CONTRIBUTING.md", "docs/reference/speed.md", "src/ddfm/fusion/pipeline.py"} <= set(MEASURED)
