"""Make a release in one command: check, build twice, lock, list, install without a network, demonstrate.

    python -m tools.release [-o FOLDER]

Run it in a clean checkout, on the machine that the locks are for, with the extra `dev` installed.
FOLDER (dist/ by default) then holds the wheel and the source archive, the locks, the bills of materials,
the licences and SHA256SUMS. Nothing is uploaded, and no tag is set. docs/develop/release.md shows a run.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tools.licences import installed, table

ROOT = Path(__file__).parents[1]
# Extras that hold what is not permissively licensed, and why. They are in no other extra.
RESTRICTED = {
    "heic": "pillow-heif brings libx265, under the GPL",
    "video": "PyAV brings libx264 and libx265, under the GPL",
    "dji": "dji-thermal-cli is under the AGPL; it needs Python 3.12",
}
DEVELOPERS = ("dev", "docs")  # extras that no user needs
LOCKS = {"core": (), "all": ("all",)}
USER_PROGRAM = """import ddfm
result: ddfm.FusionResult = ddfm.fuse("thermal.png", "visible.png", steps=0)
result.save("fused.png")
"""


class ReleaseError(Exception):
    """Something that keeps a release from being made; the message says what, and what would mend it."""


def run(*command: str | Path, cwd: Path = ROOT, changes: Mapping[str, str] | None = None) -> str:
    """Run a command without this checkout on its path, and return what it printed.

    Args:
        command: its parts.
        cwd: where it runs.
        changes: environment variables to set.

    Raises:
        ReleaseError: it failed; the message ends with what it printed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= changes or {}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-3000:]
        raise ReleaseError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{said}")
    return done.stdout


def tool(name: str) -> Path:
    """Return a command of this program's own environment."""
    return Path(sys.executable).with_name(name)


# --- What the checkout says --------------------------------------------------------------------------


def version_of(root: Path) -> str:
    """Return the version that is to be released. Raises ReleaseError if two files name different ones."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    changelog = (root / "CHANGELOG.md").read_text()
    head = re.search(r"^## (\d\S*) - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    if head is None:
        raise ReleaseError("CHANGELOG.md: has no version with a date, as in: ## 1.0.0 - 2026-01-31")
    said = {
        "pyproject.toml": project,
        "CITATION.cff": str(citation.get("version")),
        "CHANGELOG.md": head.group(1),
    }
    if len(set(said.values())) > 1:
        raise ReleaseError(
            f"versions differ: {', '.join(f'{file} {version}' for file, version in said.items())}"
        )
    if str(citation.get("date-released")) != head.group(2):
        raise ReleaseError(f"CITATION.cff: date-released is not {head.group(2)}, as in CHANGELOG.md")
    if re.search(r"^## Unreleased\n(?=\s*[^#\s])|^## Unreleased\n\s*### ", changelog, re.MULTILINE):
        raise ReleaseError(f"CHANGELOG.md: has entries under Unreleased; move them to {project}")
    return str(project)


def check_clean(root: Path) -> None:
    """Raise ReleaseError if files differ from the last commit."""
    if changed := run("git", "status", "--porcelain", cwd=root).strip():
        raise ReleaseError(f"the checkout is not clean; commit first, or stash:\n{changed}")


def check_citation(root: Path) -> None:
    """Validate CITATION.cff against its schema, by cffconvert in an environment of its own."""
    run(tool("uv"), "tool", "run", "--from", "cffconvert==2.0.0", "cffconvert", "--validate", cwd=root)


def check_extras(root: Path) -> list[str]:
    """Return the extras for users. Raises ReleaseError if one that is restricted is part of another."""
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, requirements in extras.items():
        within = set(re.findall(r"[\w-]+", " ".join(re.findall(r"ddfm\[(.*?)\]", " ".join(requirements)))))
        if name not in DEVELOPERS and (wrong := within & set(RESTRICTED)):
            raise ReleaseError(f"extra {name} holds {', '.join(wrong)}: {RESTRICTED[min(wrong)]}")
    return [name for name in extras if name not in DEVELOPERS]


# --- Archives ----------------------------------------------------------------------------------------


def export(root: Path, folder: Path) -> int:
    """Write the last commit's files to a folder; return its time, in seconds since 1970."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=root, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return int(run("git", "log", "-1", "--format=%ct", cwd=root))


def build(root: Path, folder: Path) -> list[Path]:
    """Build source archive and wheel twice, and keep them if both times gave the same bytes."""
    made = []
    for turn in ("first", "second"):
        with tempfile.TemporaryDirectory() as temporary:
            source = Path(temporary) / f"{turn}-place"
            time = export(root, source)
            limits = {"SOURCE_DATE_EPOCH": str(time), "PIP_CONSTRAINT": str(source / "constraints.txt")}
            run(sys.executable, "-m", "build", "--outdir", folder / turn, source, cwd=source, changes=limits)
        for archive in (folder / turn).glob("*.tar.gz"):
            with_one_time(archive, time)
        made.append({file.name: sha256(file) for file in sorted((folder / turn).iterdir())})
    if made[0] != made[1]:
        raise ReleaseError(f"two builds of one commit differ: {made}")
    kept = [shutil.move(folder / "first" / name, folder / name) for name in made[0]]
    for turn in ("first", "second"):
        shutil.rmtree(folder / turn)
    return [Path(path) for path in kept]


def with_one_time(archive: Path, time: int) -> None:
    """Give all files of a .tar.gz one time, one owner and sorted names: setuptools keeps the clock's."""
    with tarfile.open(archive) as files:
        members = [(each, files.extractfile(each) if each.isfile() else None) for each in files.getmembers()]
        contents = sorted(
            ((each, None if file is None else file.read()) for each, file in members),
            key=lambda pair: pair[0].name,
        )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as files:
        for each, data in contents:
            each.mtime, each.uid, each.gid, each.uname, each.gname, each.pax_headers = time, 0, 0, "", "", {}
            each.mode = 0o755 if each.isdir() or each.mode & 0o100 else 0o644
            files.addfile(each, None if data is None else io.BytesIO(data))
    with archive.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=time) as file:
        file.write(packed.getvalue())


def check_archives(archives: Sequence[Path]) -> None:
    """Check the archives' metadata and readme as the package index does."""
    run(sys.executable, "-m", "twine", "check", "--strict", *archives)


def sha256(file: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


# --- Dependencies ------------------------------------------------------------------------------------


def lock(root: Path, name: str, folder: Path) -> Path:
    """Write a lock: every package that a set of extras needs, to the version, with its files' hashes."""
    path = folder / f"requirements-{name}.lock"
    extras = [part for extra in LOCKS[name] for part in ("--extra", extra)]
    links = [
        part for place in os.environ.get("PIP_FIND_LINKS", "").split() for part in ("--find-links", place)
    ]
    options = ["--generate-hashes", "--no-annotate", "--no-header", "--no-emit-find-links", "--quiet"]
    options += ["--python-version", "3.11", "--constraint", "constraints.txt"]
    text = run(tool("uv"), "pip", "compile", "pyproject.toml", *extras, *links, *options, cwd=root)
    about = f"ddfm{[*LOCKS[name]] or ''}, locked for Linux on x86-64 and Python 3.11".replace("'", "")
    path.write_text(f"# {about}: pip install --require-hashes -r {path.name}\n{text}")
    return path


def list_licences(root: Path, wheel: Path, folder: Path) -> Path:
    """Install the wheel with every extra, list all licences, and refuse those that are not named before."""
    extras = check_extras(root)
    report = folder / "licences.md"
    with tempfile.TemporaryDirectory() as temporary:
        parts = {name: environment_of(root, wheel, [name], Path(temporary) / name) for name in RESTRICTED}
        every = environment_of(
            root, wheel, [name for name in extras if name not in RESTRICTED], Path(temporary) / "all"
        )
        packages = installed(site_packages(every))
        others = {name: installed(site_packages(part)) for name, part in parts.items()}
        bill_of_materials(every, folder / "sbom-all.cdx.json")
    if wrong := [each for each in packages if each.verdict == "restricted"]:
        raise ReleaseError(f"not permissive, and in no extra of its own:\n{table(wrong)}")
    text = "# Every extra but those below\n\n" + table(packages)
    for name, found in others.items():
        own = [each for each in found if each.verdict == "restricted"]
        text += f"\n# Extra {name}: {RESTRICTED[name]}\n\n" + (table(own) if own else "Not installed here.\n")
    report.write_text(text)
    return report


def environment_of(root: Path, wheel: Path, extras: Sequence[str], folder: Path) -> Path:
    """Make an environment with the wheel and some extras, by the pinned versions."""
    run(tool("uv"), "venv", "--quiet", "--python", sys.executable, folder)
    wanted = f"ddfm[{','.join(extras)}] @ {wheel.resolve().as_uri()}"
    links = [
        part for place in os.environ.get("PIP_FIND_LINKS", "").split() for part in ("--find-links", place)
    ]
    pins: list[str | Path] = ["--constraint", "constraints.txt", "--python", folder / "bin" / "python"]
    run(tool("uv"), "pip", "install", "--quiet", *links, *pins, wanted, cwd=root)
    return folder


def site_packages(environment: Path) -> Path:
    """Return the folder of an environment's packages."""
    return next((environment / "lib").glob("python3*")) / "site-packages"


def bill_of_materials(environment: Path, output: Path) -> None:
    """Write what an environment holds as CycloneDX, the same bytes each time."""
    options: list[str | Path] = [
        "--output-reproducible",
        "--pyproject",
        ROOT / "pyproject.toml",
        "-o",
        output,
    ]
    run(tool("cyclonedx-py"), "environment", *options, environment / "bin" / "python")


# --- The demonstration -------------------------------------------------------------------------------


def demonstrate(wheel: Path, locked: Path, folder: Path) -> None:
    """Install the wheel without an index into an empty environment, and use it there.

    Its dependencies come from a folder of wheels that was filled before, and are checked by their hashes.
    """
    with tempfile.TemporaryDirectory() as temporary:
        wheels, environment, away = (Path(temporary) / name for name in ("wheels", "environment", "away"))
        away.mkdir()
        run(
            sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "-r", locked, "-d", wheels
        )
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--no-index"]
        nowhere = {"PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
        run(*install, "--require-hashes", "--find-links", wheels, "-r", locked, changes=nowhere)
        run(*install, "--no-deps", wheel, changes=nowhere)
        run(python, "-m", "pip", "check")
        run(environment / "bin" / "ddfm", "demo", "-o", away / "demo", cwd=away)
        pictures = sorted((away / "demo").rglob("*.png"))
        if not pictures:
            raise ReleaseError("ddfm demo made no picture")
        check_types(python, away)
        bill_of_materials(environment, folder / "sbom-core.cdx.json")
    print(f"  ddfm demo made {len(pictures)} pictures; a program of three lines passes mypy --strict")


def check_types(python: Path, folder: Path) -> None:
    """Check a user's program against the installed types, and that a wrong one is refused."""
    program = folder / "program.py"
    check: list[str | Path] = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        python,
        program,
    ]
    program.write_text(USER_PROGRAM)
    run(*check, cwd=folder)
    program.write_text(USER_PROGRAM.replace("steps=0", "steps='none'"))
    try:
        run(*check, cwd=folder)
    except ReleaseError as error:
        if "arg-type" in str(error):
            return
        raise
    raise ReleaseError("mypy accepts steps='none': the wheel's types are not seen (py.typed)")


def main() -> None:
    """Make a release, step by step."""
    parser = ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist")
    folder: Path = parser.parse_args().output.resolve()
    try:
        release(folder)
    except ReleaseError as error:
        sys.exit(f"release: {error}")


def release(folder: Path) -> None:
    """Make the release in a folder, which must be empty or absent."""
    if folder.exists() and any(folder.iterdir()):
        raise ReleaseError(f"{folder}: is not empty; name another, or remove it")
    version = version_of(ROOT)
    print(f"version {version}: pyproject.toml, CHANGELOG.md and CITATION.cff agree", flush=True)
    check_clean(ROOT)
    check_citation(ROOT)
    print("the checkout is clean, CITATION.cff is valid", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    archives = build(ROOT, folder)
    check_archives(archives)
    print("built twice with the same bytes, checked by twine", flush=True)
    locks = [lock(ROOT, name, folder) for name in LOCKS]
    print(f"locked: {', '.join(path.name for path in locks)}", flush=True)
    (wheel,) = (path for path in archives if path.suffix == ".whl")
    print("installed without a network into an empty environment:", flush=True)
    demonstrate(wheel, locks[0], folder)
    print(f"licences of all extras: {list_licences(ROOT, wheel, folder).name}", flush=True)
    files = sorted(folder.iterdir())
    sums = "".join(f"{sha256(file)}  {file.name}\n" for file in files)
    (folder / "SHA256SUMS").write_text(sums)
    print(sums, end="")


if __name__ == "__main__":
    main()
