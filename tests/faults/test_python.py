"""The Python functions refuse in one line what is no picture, and don't depend on torch's settings."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

import ddfm
from ddfm.devices import is_items_fault, own_settings, pick_device
from ddfm.errors import InputError
from ddfm.fusion.sources import as_images
from ddfm.jobs.work import reason
from tests.conftest import picture

GREY = torch.from_numpy(picture(32, 32, 1, np.uint8))


def nested() -> torch.Tensor:
    return torch.nested.nested_tensor([GREY.float(), GREY.float()])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GREY.float().to_sparse(), "nested or sparse"),
        (lambda: GREY.float().to_sparse_csr(), "nested or sparse"),
        (nested, "nested or sparse"),
        (lambda: GREY.to("meta"), "meta"),
        (lambda: torch.quantize_per_tensor(GREY.float(), 1.0, 0, torch.quint8), "quantised"),
        (lambda: GREY.to(torch.complex64), "complex64"),
        (lambda: np.matrix(GREY.numpy()), "matrix is no plain array"),
        (lambda: np.ma.masked_array(GREY.numpy()), "MaskedArray is no plain array"),
        (lambda: np.array([["a"] * 32] * 32), "samples are"),
        (lambda: b"a.png", "is not a path"),
        (lambda: 5, "is not a path"),
        (lambda: "a\0b.png", "cannot be looked at"),
    ],
)
def test_what_is_no_picture(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_images(make(), "first source")


def test_tensors_of_16_bits() -> None:
    exact = (GREY // 2 * 2).to(torch.bfloat16)  # eight bits are what it holds
    (image,), _ = as_images(exact, "first source")
    assert np.array_equal(image.to_array(), exact.float().numpy())
    wanted, _ = as_images(GREY.requires_grad_(False), "first source")
    assert np.array_equal(wanted[0].to_array(), GREY.numpy())


def settings_as_they_come(tensor: torch.Tensor) -> bool:
    product = tensor @ tensor
    fresh = torch.empty(2)
    return (fresh.dtype, fresh.device.type, product.dtype) == (torch.float32, "cpu", torch.float32)


def test_settings_of_the_caller_do_not_matter() -> None:
    tensor = torch.ones(4, 4, dtype=torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.autocast("cpu", torch.bfloat16):
            assert not settings_as_they_come(tensor)
            with own_settings():
                assert settings_as_they_come(tensor)
                with own_settings():
                    assert settings_as_they_come(tensor)
            assert torch.get_default_dtype() == torch.float64
            assert torch.empty(1).device.type == "meta"
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_last_thread_gives_the_settings_back() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with own_settings():
            inside.set()
            leave.wait()

    torch.set_default_dtype(torch.float64)
    try:
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait()
        with own_settings():
            pass
        assert torch.get_default_dtype() == torch.float32  # the other one is within
        leave.set()
        thread.join()
        assert torch.get_default_dtype() == torch.float64
    finally:
        leave.set()
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("steps", [0, 2])
def test_results_do_not_depend_on_the_callers_settings(steps: int) -> None:
    a, b = (picture(32, 32, 1, np.uint8, k) for k in range(2))
    options: dict[str, Any] = {"task": "infrared", "steps": steps, "device": "cpu", "dtype": "float32"}
    plain = ddfm.fuse(a, b, **options).to_array()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            odd = ddfm.fuse(a, b, **options).to_array()
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(plain, odd)


def test_devices_that_compute_nothing() -> None:
    for name in ("meta", "nowhere", "cuda:99", ""):
        with pytest.raises(InputError, match="device"):
            pick_device(name)


def test_black_stays_black() -> None:
    """The knee of task exposure made 5 of it."""
    black = np.zeros((32, 32), np.uint8)
    fused = ddfm.fuse(black, black, task="exposure", steps=0, device="cpu").to_array()
    assert fused.max() == 0


def test_whose_fault_it_is() -> None:
    for error in (
        InputError("x"),
        OSError(28, "full"),
        MemoryError(),
        RuntimeError("can't allocate memory: 9"),
    ):
        assert is_items_fault(error)
        assert reason(error)
    for bug in (KeyError("x"), RuntimeError("size mismatch"), NotImplementedError("out of memory")):
        assert not is_items_fault(bug)
        with pytest.raises(type(bug)):
            reason(bug)
