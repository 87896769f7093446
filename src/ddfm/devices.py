"""Where the network computes, and in which number format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

import psutil
import torch

from ddfm.errors import InputError, reason_of

CPU = torch.device("cpu")
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
BACKENDS = ("torch", "openvino")
DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu")  # kinds that compute: "meta" holds no numbers
_dtypes: list[torch.dtype] = []  # the caller's default type first, then one for each that is within
_dtypes_lock = Lock()


def pick_device(name: str, backend: str = "torch") -> torch.device:
    """Return a device by name; ``auto`` is a CUDA GPU, else Apple's, else the CPU.

    For the backend openvino ``auto`` is the CPU. Raises InputError if there is no such device.
    """
    if name == "auto":
        apple = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if apple else "cpu"
        name = name if backend == "torch" else "cpu"
    try:
        # A tensor's device, because that one has its index: "cuda" and "cuda:0" do not compare equal.
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise InputError(f"device {name!r}: not available here ({reason_of(error)[:200]})") from error
    if device.type not in DEVICES:
        raise InputError(f"device {name!r}: nothing is computed there; use one of {', '.join(DEVICES)}")
    return device


def pick_dtype(name: str, device: torch.device, warm: bool) -> torch.dtype:
    """Return the network's number format by name. Raises InputError for others.

    ``auto`` is bfloat16 where the device is fast at it and sampling starts warm, else float32. From pure
    noise on, the network's errors would be multiplied in the clean image.
    """
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.bfloat16 if warm and is_fast_at_bfloat16(device) else torch.float32
    if name not in dtypes:
        raise InputError(f"dtype {name!r}: not one of {', '.join(dtypes)}, auto")
    return dtypes[name]


def is_fast_at_bfloat16(device: torch.device) -> bool:
    """Tell whether the device has instructions for bfloat16; others emulate it, slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Of versions of torch that cannot tell (2.6, say) none is taken for fast.
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def own_settings(device: torch.device | str = "cpu") -> Iterator[None]:
    """Compute with torch as it comes, whatever the caller has set: default type and device, autocast.

    They decide what new tensors are and how products are rounded, and so what a picture looks like. The
    number of threads stays the caller's.

    Args:
        device: where the network computes; autocast is switched off there and on the CPU.
    """
    kinds = {"cpu", torch.device(device).type}
    with ExitStack() as stack:
        stack.enter_context(_own_dtype())
        if torch.get_default_device() != CPU:  # a default device costs microseconds at each call of torch
            stack.enter_context(CPU)
        for kind in sorted(kinds):
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def _own_dtype() -> Iterator[None]:
    """Set float32 as default type of all threads; the last that leaves puts the caller's back."""
    with _dtypes_lock:
        _dtypes.append(torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _dtypes_lock:
            if len(_dtypes) == 1:
                torch.set_default_dtype(_dtypes[0])
                _dtypes.clear()
            else:
                _dtypes.pop()


ITEM_FAILURES = (InputError, OSError, MemoryError, RuntimeError)


def is_items_fault(error: BaseException) -> bool:
    """Tell whether one item of many is to blame, so that the others are worth going on with.

    That is a file that is wrong, a disk that refuses, and memory that ran out: the others may be smaller.
    torch has no exception of its own for the latter on CPUs. All else is a fault of this program.
    """
    if isinstance(error, InputError | OSError | MemoryError | torch.OutOfMemoryError):
        return True
    return type(error) is RuntimeError and any(words in str(error).lower() for words in NO_MEMORY)


def synchronise() -> None:
    """Wait until all GPUs that this process uses have finished."""
    if torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            if torch.cuda.memory_allocated(index):  # the others would only now be set up
                torch.cuda.synchronize(index)
    if torch.backends.mps.is_available():
        torch.mps.synchronize()


def memory_at_hand(device: torch.device) -> int:
    """Return the bytes that are free on the device, or, for a CPU, in main memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(int(psutil.virtual_memory().available), _left_in_container())


def _left_in_container() -> int:
    """Return the bytes left below the limit of a container's control group (Linux, version 2)."""
    group = Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no such group, or its limit is "max"
        return 2**63
