"""Read files of tensors that torch saved, without running what is in them, and within bounds."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddfm.errors import InputError
from ddfm.formats.files import decoding, open_regular, size_of

UNPACKED = 2  # bytes for each byte of the file: torch does not compress


def load_tensors(path: Path, device: str = "cpu", *, mapped: bool = False) -> Any:
    """Return what `torch.save` wrote: tensors, numbers and texts in dictionaries and lists.

    Args:
        mapped: leave the tensors on the disk until they are needed, where the file allows it.

    Raises:
        InputError: the file is missing, damaged, could run code, or unpacks to more than it holds.
    """
    with open_regular(path, "a checkpoint") as file:
        size = size_of(file)
        zipped = zipfile.is_zipfile(file)
        if zipped:
            _check_zip(path, size)
    with decoding(str(path), "not a whole PyTorch checkpoint", pickle.UnpicklingError):
        try:
            loaded = torch.load(path, map_location=device, weights_only=True, mmap=mapped and zipped)
        except (pickle.UnpicklingError, RuntimeError) as error:
            if "weights_only" in str(error).lower() or "unsupported" in str(error).lower():
                raise InputError(
                    f"{path}: holds more than tensors and could run code; it was not loaded"
                ) from error
            raise
    if sum(tensor.numel() for tensor in tensors_in(loaded)) > size:
        raise InputError(f"{path}: is damaged (its tensors have more numbers than it has bytes)")
    return loaded


def _check_zip(path: Path, size: int) -> None:
    """Raise InputError for an archive that unpacks to more than torch's do."""
    with (
        decoding(str(path), "not a whole PyTorch checkpoint", zipfile.BadZipFile),
        zipfile.ZipFile(path) as z,
    ):
        unpacked = sum(entry.file_size for entry in z.infolist())
    if unpacked > UNPACKED * size + 2**20:
        raise InputError(f"{path}: is damaged (it unpacks to {unpacked} bytes)")


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested dictionaries, lists and tuples."""
    found, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
    return found


def all_finite(value: Any) -> bool:
    """Tell whether no tensor in it holds NaN or infinity."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors_in(value) if tensor.is_floating_point())
