"""Where the network computes, and in which number format."""

from __future__ import annotations

import torch

from ddfm.errors import InputError


def pick_device(name: str) -> torch.device:
    """``auto`` is a CUDA GPU, else Apple's, else the CPU. Raises InputError if there is none such."""
    if name == "auto":
        apple = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if apple else "cpu"
    try:
        # A tensor's device, because that one has its index: "cuda" and "cuda:0" do not compare equal.
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r}: not available here ({str(error).splitlines()[0]})") from error


def pick_dtype(name: str) -> torch.dtype:
    """The network's number format by name. Raises InputError for others."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise InputError(f"dtype {name!r}: not one of {', '.join(dtypes)}")
    return dtypes[name]
