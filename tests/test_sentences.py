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
PAGES = ("*.md", "docs/**/*.md", "benchmarks/*.md", "src/ddfm/**/*.md", "src/ddfm/**/*.py")
FOUND = sorted(path.relative_to(ROOT).as_posix() for pattern in PAGES for path in ROOT.glob(pattern))

TEXTS = [name for name in FOUND if name.endswith(".md")]
LEAST_EASE = 65  # of Flesch's scale, on which 60 to 70 is plain English
MOST_WORDS_ON_AVERAGE = 15

MARKDOWN = MarkdownIt().enable("table")
# An argument's description is a sentence of its own.
ARGUMENT = re.compile(r"\n    \w[\w, *]*: (.*(?:\n {8}.*)*)")
END = re.compile(r"(?<=[.!?])[)\"]*\s+(?=[\"(]*[A-Z0-9])|(?<=[:;])\s+")
VOWELS = re.compile(r"[aeiouy]+")
SILENT = re.compile(r"(?<![aeiouyl])e$|(?<![aeiouylsczxg])(?<!ch)(?<!sh)es$|(?<![aeiouytd])ed$")
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


def syllables(word: str) -> int:
    """Count groups of vowels, less a silent ending."""
    return max(1, len(VOWELS.findall(SILENT.sub("", word.lower()))))


def reading_ease(text: str) -> tuple[float, float]:
    """Return Flesch's reading ease of a page, and its mean number of words a sentence."""
    parts = [sentence.split() for _, paragraph in prose(text) for sentence in END.split(paragraph)]
    sentences = [[word for word in part if WORD.fullmatch(word) and word != "Code"] for part in parts]
    counts = [len(sentence) for sentence in sentences if len(sentence) > 1]
    spoken = sum(syllables(word) for sentence in sentences if len(sentence) > 1 for word in sentence)
    mean = sum(counts) / len(counts)
    return 206.835 - 1.015 * mean - 84.6 * spoken / sum(counts), mean


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


@pytest.mark.parametrize("name", FOUND)
def test_sentences_are_short(name: str) -> None:
    found = [
        f"{name}:{start + line - 1}: {fault}"
        for start, text in texts(name)
        for line, fault in long_sentences(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", TEXTS)
def test_pages_are_easy_to_read(name: str) -> None:
    ease, mean = reading_ease((ROOT / name).read_text())
    assert ease >= LEAST_EASE, f"{name}: reading ease {ease:.0f}, {mean:.1f} words a sentence"
    assert mean <= MOST_WORDS_ON_AVERAGE, f"{name}: {mean:.1f} words a sentence"


def test_reading_ease_is_fleschs() -> None:
    """Worked by hand: six words of one syllable."""
    assert reading_ease("The cat sat on the mat.\n")[0] == pytest.approx(206.835 - 1.015 * 6 - 84.6)
    hard = (
        "Considerable computational difficulties necessarily accompany every unconditional generalisation.\n"
    )
    ease, mean = reading_ease(hard)
    assert mean == 8
    assert ease < -100
    assert [syllables(word) for word in ("scene", "makes", "noise", "picture", "little", "measured")] == [
        1, 1, 1, 2, 2, 2,
    ]  # fmt: skip


def test_long_sentences_are_found() -> None:
    long = " ".join(["word"] * (MOST_WORDS + 1))
    no_prose = f"# {long}\n\n```\n{long}\n```\n\n| a |\n| --- |\n| {long} |\n\n"
    text = f"{no_prose}Short.\nAlso `{long}` is. But [{long}](x) is not.\n\n- {long}\n"
    assert [line for line, _ in long_sentences(text)] == [11, 14]
    assert words("x_k = m_k + 3 of (a 2x2 window), that is all.") == 6
    assert len(END.split("One: two; three. Four (by 1 % e.g. so).")) == 4
    assert len(list(long_sentences(f"{long}; {long}"))) == 2


def test_pages_and_modules_are_found() -> None:
    assert len(FOUND) > 80
    assert {"CONTRIBUTING.md", "docs/reference/speed.md", "src/ddfm/fusion/pipeline.py"} <= set(FOUND)
