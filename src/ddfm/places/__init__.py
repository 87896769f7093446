"""Folders of pictures: here, or behind a URL."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

from ddfm.places.base import Place
from ddfm.places.local import LocalFolder

URL, FILE = "://", "file://"


def is_url(name: str | os.PathLike[str]) -> bool:
    """Tell whether a name is a URL, such as s3://bucket/folder."""
    return URL in str(name)


def place_of(name: str | os.PathLike[str]) -> Place:
    """Return the folder of that name. Raises InputError for a URL without the extra ``remote``."""
    if str(name).startswith(FILE):
        return LocalFolder(Path(unquote(str(name)[len(FILE) :])))
    if is_url(name):
        from ddfm.places.remote import RemoteFolder

        return RemoteFolder(str(name))
    return LocalFolder(Path(name))
