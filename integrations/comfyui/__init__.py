"""A node for ComfyUI: two batches of images in, one fused batch out.

Copy this folder to ComfyUI/custom_nodes/ddfm, and `pip install ddfm` into ComfyUI's environment.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import ddfm

TASKS = ["auto", "infrared", "medical", "exposure", "focus"]


class DdfmFuse:
    """Fuse two aligned images of one scene, batch by batch."""

    CATEGORY = "image/fusion"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "fuse"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """Return the node's inputs."""
        return {
            "required": {
                "a": ("IMAGE",),
                "b": ("IMAGE",),
                "task": (TASKS,),
                "steps": ("INT", {"default": 5, "min": 0, "max": 1000}),
                "seed": ("INT", {"default": 3407, "min": 0, "max": 2**63 - 1}),
                "balance": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.05}),
            }
        }

    def fuse(self, a: Tensor, b: Tensor, task: str, steps: int, seed: int, balance: float) -> tuple[Tensor]:
        """Fuse images (B, H, W, 3) in [0, 1], ComfyUI's layout, and return them in it."""
        # One at a time: ComfyUI's images are copies of grey in three channels, which each image decides.
        pairs = [(left.cpu().numpy(), right.cpu().numpy()) for left, right in zip(a, b, strict=True)]
        fused = [
            ddfm.fuse(*pair, task=task, steps=steps, seed=seed, balance=balance).to_tensor() for pair in pairs
        ]
        grey = [image[..., None].expand(*image.shape, 3) if image.ndim == 2 else image for image in fused]
        return (torch.stack(grey).float(),)


NODE_CLASS_MAPPINGS = {"DdfmFuse": DdfmFuse}
NODE_DISPLAY_NAME_MAPPINGS = {"DdfmFuse": "Fuse images (ddfm)"}
