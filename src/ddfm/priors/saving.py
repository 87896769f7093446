"""Write a prior's folder so that it is never seen without a part of it."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError

from ddfm.errors import InputError, reason_of
from ddfm.formats.atomic import explained, partial_folder, sync_all, whole_folder
from ddfm.priors.diffusion import DiffusionPrior

LAST = "config.json"  # without which a folder is no prior


def save_whole(prior: DiffusionPrior, folder: Path) -> None:
    """Write a prior's folder whole; in a folder that is there already, its files, each whole.

    Raises InputError if it cannot be written.
    """
    try:
        if not folder.is_dir():
            with whole_folder(folder) as partial:
                prior.save(partial)
            return
        with explained(folder), partial_folder(folder) as partial:
            prior.save(partial)
            sync_all(partial)
            for path in sorted(partial.iterdir(), key=lambda path: (path.name == LAST, path.name)):
                path.replace(folder / path.name)
    except SafetensorError as error:  # a full disk, say
        raise InputError(f"{folder}: cannot be written ({reason_of(error)})") from error
