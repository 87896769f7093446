"""Write files and folders whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from threading import get_ident

from ddfm.errors import InputError


def prepare_folder(folder: Path) -> None:
    """Create the folder and make sure that files can be created in it; else InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".ddfm-{os.getpid()}-{get_ident()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is never seen half-written. Raises InputError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _write_folder(path: Path, files: dict[str, bytes]) -> None:
    """A folder of files, seen only when all are there."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name, data in files.items():
            (partial / name).write_bytes(data)
        if path.is_dir():
            path.rmdir()  # an empty one; anything else fails, as it should
        partial.rename(path)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
