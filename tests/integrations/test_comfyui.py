"""The ComfyUI node, called as ComfyUI calls it."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from ddfm.fusion.pipeline import fuse
from tests.conftest import ROOT, picture


@pytest.fixture(scope="module")
def node() -> Any:
    """The node's module, loaded by its path, as ComfyUI does."""
    path = ROOT / "integrations" / "comfyui" / "__init__.py"
    spec = importlib.util.spec_from_file_location("ddfm_node", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images(channels: int, seed: int) -> torch.Tensor:
    """A batch in ComfyUI's layout."""
    stack = [picture(32, 48, channels, np.uint8, seed + k) for k in range(2)]
    tensors = [torch.from_numpy(each.reshape(32, 48, channels) / np.float32(255)) for each in stack]
    return torch.stack(tensors).expand(2, 32, 48, 3).contiguous()


def test_a_batch_is_fused_image_by_image(node: Any) -> None:
    (kind,) = node.NODE_CLASS_MAPPINGS.values()
    assert set(node.NODE_CLASS_MAPPINGS) == set(node.NODE_DISPLAY_NAME_MAPPINGS)
    a, b = images(1, 1), images(3, 7)
    inputs = kind.INPUT_TYPES()["required"]
    defaults = {"task": "infrared", "steps": 0, **{n: inputs[n][1]["default"] for n in ("seed", "balance")}}
    assert set(inputs) == {"a", "b", *defaults}
    (fused,) = getattr(kind(), kind.FUNCTION)(a=a, b=b, **defaults)
    assert (fused.shape, fused.dtype) == ((2, 32, 48, 3), torch.float32)
    expected = fuse(a[1, ..., 0].numpy(), b[1].numpy(), task="infrared", steps=0).to_array()
    assert np.abs(fused[1].numpy() - expected).max() < 1e-6
    (grey,) = kind().fuse(a, images(1, 5), **defaults)
    assert grey.shape == (2, 32, 48, 3)
    assert torch.equal(grey[..., 0], grey[..., 2])


def test_its_tasks_are_ours(node: Any) -> None:
    from ddfm.likelihoods.tasks import TASKS

    assert ["auto", *TASKS] == node.TASKS
