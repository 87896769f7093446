"""Where the network computes, and in which number format."""

from __future__ import annotations

import torch

from ddfm.errors import InputError


def pick_device(name: str) -> torch.device:
    """``auto`` is a CUDA GPU, else Apple's, else the CPU. Raises InputError if there is none such."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r}: not available here ({str(error).splitlines()[0]})") from error


def pick_dtype(name: str) -> torch.dtype:
    """The network's number format by name. Raises InputError for others."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise InputError(f"dtype {name!r}: not one of {', '.join(dtypes)}")
    return dtypes[name]
