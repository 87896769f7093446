"""Every command and every block of Python on the pages runs; what needs more says so, and is parsed."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from ddfm.cli import app
from tests.conftest import ROOT, Command
from tests.docs.pages import NEEDS, PAGES, Block, blocks, inline
from tests.docs.sources import LARGE, SMALL, write_sources

# Their code takes long: whole scenes are drawn, or hundreds; pictures are registered, or fused many times.
LONG = {
    "docs/compare/benchmark.md",
    "docs/compare/datasets.md",
    "docs/compare/index.md",
    "docs/faq.md",
    "docs/install.md",
    "docs/use/brackets.md",
    "docs/use/folders.md",
    "docs/use/registration.md",
    "docs/use/thermal.md",
    "docs/use/uncertainty.md",
}
ELSEWHERE = {"docs/gallery.md", "docs/research/extend.md"}  # have tests of their own
LANGUAGES = {"", "bash", "python", "text"}
PROGRAM = get_command(app)
PLACEHOLDERS = re.compile(r"\.\.\.|\b[A-Z]{3,}\b|<|…")  # a pattern of commands, and no command
# Options that the pages name of other programs.
FOREIGN = {"--no-deps", "--constraint", "--help", "--only", "--sources"}


def shell_lines() -> list[Any]:
    """Return all lines of shell on all pages, each under its place."""
    return [
        pytest.param(line, id=f"{page}:{block.line}:{n}")
        for page in PAGES
        for block in blocks(page)
        if block.language == "bash"
        for n, line in enumerate(block.lines)
    ]


def parse(command: Any, arguments: list[str], name: str, parent: Any = None) -> None:
    """Parse a command line as the program does, without doing anything."""
    context = command.make_context(name, list(arguments), parent=parent, resilient_parsing=False)
    if hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        below, chosen, left = command.resolve_command(context, rest)
        parse(chosen, left, below, context)


def check_line(line: str) -> None:
    """Raise if a line of shell names what does not exist."""
    words = shlex.split(line, comments=True)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    match words:
        case ["ddfm", ("--help" | "--version")]:
            pass
        case ["ddfm", *arguments]:
            parse(PROGRAM, arguments, "ddfm")
        case ["pip", "install", *given]:
            for name in re.findall(r"\[([\w,]+)\]", " ".join(given)):
                assert set(name.split(",")) <= set(extras), name
        case ["make", target]:
            assert f"\n{target}:" in (ROOT / "Makefile").read_text()
        case ["python", "benchmarks", *given]:
            assert not given or any(
                (ROOT / "benchmarks" / f"{given[0]}{end}").exists() for end in (".py", "")
            )
        case ["python", "-m", module, *_]:
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
        case ["python", script, *_]:
            assert (ROOT / script).is_file()
        case ["cd", _]:
            pass
        case _:
            assert NEEDS.search(line), "no command that the tests know: say what it needs (# needs ...)"


@pytest.mark.parametrize("line", shell_lines())
def test_lines_of_shell_are_right(line: str) -> None:
    check_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "ddfm fuse a.png b.png -o c.png --stepz 3",
        "ddfm fuze a.png",
        "ddfm downstream detection msrs --rooot x -o y",
        "pip install 'ddfm[nothing]'",
        "make nothing",
        "python benchmarks nothing",
        "curl example.org",
    ],
)
def test_wrong_lines_are_found(line: str) -> None:
    with pytest.raises((AssertionError, typer.TyperException)):
        check_line(line)


@pytest.mark.parametrize("page", PAGES)
def test_code_between_the_lines_is_right(page: str) -> None:
    """Commands in sentences and tables parse, options exist, and no block hides its language."""
    known = set(re.findall(r"--[a-z][a-z-]*", all_help())) | FOREIGN
    for token in inline(page):
        if token.type != "code_inline":
            continue
        if (
            token.content.startswith("ddfm ")
            and " -o " in token.content
            and not PLACEHOLDERS.search(token.content)
        ):
            check_line(token.content)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", token.content):
            assert option in known, f"{page}: {option}"
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page}:{block.line}"
        if block.language in ("", "text"):
            assert not re.search(
                r"^(ddfm [a-z]|pip install|python |make [a-z-]+$)", block.text, re.MULTILINE
            ), f"{page}:{block.line}"


def all_help() -> str:
    """Return every option of every command."""
    found: list[str] = []

    def look(command: Any) -> None:
        found.extend(option for parameter in command.params for option in parameter.opts)
        for below in getattr(command, "commands", {}).values():
            look(below)

    look(PROGRAM)
    return " ".join(found)


def runnable(page: str) -> list[Block]:
    """Return the blocks of a page that run by themselves."""
    return [block for block in blocks(page) if block.language in ("bash", "python")]


RUN = [page for page in PAGES if page not in ELSEWHERE and runnable(page)]


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if page in LONG else ()) for page in RUN]
)
def test_pages_run(page: str, tmp_path: Path, ddfm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, in order, in one folder."""
    monkeypatch.chdir(tmp_path)
    write_sources(tmp_path, LARGE if page in LONG else SMALL)
    names: dict[str, Any] = {}
    for block in runnable(page):
        if block.language == "python":
            code = compile(block.text, f"{page}:{block.line}", "exec")
            if not NEEDS.search(block.text):
                exec(code, names)
            continue
        for line in block.lines:
            words = shlex.split(line, comments=True)
            if words[0] == "ddfm" and not NEEDS.search(line):
                done = ddfm(*words[1:])
                assert done.returncode == 0, f"{page}: {line}\n{done.stdout}{done.stderr}"


def test_pages_are_found() -> None:
    assert len(PAGES) > 30
    assert len(shell_lines()) > 80
    assert set(RUN) >= {"README.md", "docs/index.md", "docs/use/thermal.md", "docs/reference/api.md"}
    assert set(PAGES) >= LONG | ELSEWHERE
