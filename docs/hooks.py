"""Hooks of mkdocs (mkdocs.yml): pages for what lies outside docs/, and the reference of the commands.

Links lead where they lead on a forge: to files of the repository. The site has to stand alone. So each
file that a page links to gets a page of its own below `repository/`. Markdown stays as it is, Python is
shown by its definitions, other text in one block. What is no text is copied. Links are then turned to
those pages.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = "repository"
COMMANDS = "<!-- commands -->"
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"^ {0,3}```.*?^ {0,3}```", re.MULTILINE | re.DOTALL)
COPIED = {".json", ".jsonl", ".svg", ".png", ".jpg", ".csv", ".ipynb"}
FACES = ("README.md", "__main__.py", "__init__.py")  # what stands for a folder
CONTENTS = "contents.md"  # the page of a folder that none of them stands for
LANGUAGES = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page, or a copy, of every file of the repository that pages link to, and that those link to."""
    waiting = [(f"docs/{file.src_uri}", file.content_string) for file in files.documentation_pages()]
    while waiting:
        name, text = waiting.pop()
        for target in targets(name, text):
            uri = place(target)
            if uri is None or files.get_file_from_path(uri) is not None:
                continue
            path = ROOT / face(target)
            if path.suffix in COPIED and path.is_file():
                files.append(File.generated(config, uri, abs_src_path=str(path)))
            elif path.exists():
                content = page_of(path)
                files.append(File.generated(config, uri, content=content))
                if path.is_dir() or path.suffix == ".md":
                    waiting.append((origin(uri), content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository to their pages, and write the commands' reference."""
    name = origin(page.file.src_uri)

    def turned(link: re.Match[str]) -> str:
        uri = place(posixpath.normpath(posixpath.join(posixpath.dirname(name), link[2])))
        if uri is None:
            return link[0]
        return link[1] + posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".") + link[3]

    markdown = outside_code(lambda prose: LINK.sub(turned, prose), markdown)
    return markdown.replace(COMMANDS, commands()) if COMMANDS in markdown else markdown


def outside_code(change: Callable[[str], str], text: str) -> str:
    """Apply ``change`` to what stands between the fenced blocks."""
    blocks = FENCE.findall(text)
    parts = [change(part) for part in FENCE.split(text)]
    return "".join(part + block for part, block in zip(parts, [*blocks, ""], strict=True))


def targets(name: str, text: str) -> set[str]:
    """Return the files and folders of the repository that the page ``name`` links to."""
    return {posixpath.normpath(posixpath.join(posixpath.dirname(name), link[2]))
            for link in LINK.finditer(FENCE.sub("", text))}  # fmt: skip


def origin(uri: str) -> str:
    """Return the path in the repository of what the site keeps at ``uri``."""
    return uri.removeprefix(f"{OUTSIDE}/") if uri.startswith(f"{OUTSIDE}/") else f"docs/{uri}"


def face(target: str) -> str:
    """Return the file that stands for ``target``: itself, or the page of a folder."""
    if not (ROOT / target).is_dir():
        return target
    return next((f"{target}/{name}" for name in FACES if (ROOT / target / name).is_file()), target)


def place(target: str) -> str | None:
    """Return where the site keeps a file of the repository; None if it keeps no such file."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/") if (ROOT / target).suffix != ".py" else f"{OUTSIDE}/{target}.md"
    path = face(target)
    if target.startswith("..") or not (ROOT / path).exists():
        return None
    if (ROOT / path).is_dir():
        return f"{OUTSIDE}/{path}/{CONTENTS}"
    suffix = Path(path).suffix
    return f"{OUTSIDE}/{path}" + ("" if suffix in COPIED or suffix == ".md" else ".md")


def page_of(path: Path) -> str:
    """Return a file of text as a page, or a folder as a list of its files."""
    if path.is_dir():
        names = sorted(each.name for each in path.iterdir() if each.is_file())
        return f"# {path.relative_to(ROOT).as_posix()}\n\n" + "".join(
            f"- [{name}]({name})\n" for name in names
        )
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    head = f"---\nhide: [navigation]\n---\n# {path.relative_to(ROOT).as_posix()}\n\n"  # code needs the width
    if path.suffix != ".py":
        return f"{head}````{LANGUAGES.get(path.suffix, 'text')}\n{text}````\n"
    return head + "\n\n".join(sections(text))


def sections(source: str) -> list[str]:
    """Return Python by its definitions, each below a heading that links can name."""
    lines = source.splitlines()
    parts: list[str] = []
    begun, heading = 0, ""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
            parts += [heading + block(lines[begun:first])]
            parts += [f"## `{node.name}` {{#{node.name}}}\n\n" + block(lines[first : node.end_lineno])]
            begun, heading = node.end_lineno or first, ""
    return [part for part in [*parts, block(lines[begun:])] if part]


def block(lines: list[str]) -> str:
    """Return lines of Python as a fenced block; nothing for none."""
    code = "\n".join(lines).strip("\n")
    return f"````python\n{code}\n````" if code else ""


def commands() -> str:
    """Return the reference of all commands, from the program itself."""
    import typer
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from ddfm.cli import app

    command = get_command(app)
    text: str = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="ddfm"), name="ddfm")
    return text.partition("\n")[2].replace("<list[str]>", "")
