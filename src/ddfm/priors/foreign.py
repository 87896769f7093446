"""Networks of layouts that `ddfm.priors.network` does not know, by diffusers.

Only this module imports diffusers, an extra that takes seconds. It is imported when such a network is loaded.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ddfm.errors import InputError
from ddfm.priors.network import SplitInput, UNet, use_channels_last
from ddfm.priors.plain import PlainUNet

# Whatever diffusers stumbles on in configurations and weights that are damaged.
STUMBLES = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ImportError,
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
)


class DiffusersUNet(nn.Module):
    """A diffusers network that is called like a `UNet`.

    Attributes:
        model: with its first convolution replaced by `SplitInput`, which shares its weights.
    """

    def __init__(self, model: UNet2DModel) -> None:
        super().__init__()
        conv = model.conv_in
        sides = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding}
        split = SplitInput(conv.in_channels, conv.out_channels, **sides, device="meta")
        split.weight, split.bias = conv.weight, conv.bias
        model.conv_in = split
        self.model = model

    @classmethod
    def load(cls, folder: Path, weights: str | None) -> DiffusersUNet:
        """Read config.json and the weights, from the file of that name if one is given. Raises InputError."""
        try:
            if weights:
                model = UNet2DModel.from_config(UNet2DModel.load_config(folder))
                model.load_state_dict(load_file(folder / weights))
                wrong = []
            else:
                model, report = UNet2DModel.from_pretrained(
                    folder, low_cpu_mem_usage=False, output_loading_info=True
                )
                wrong = report["missing_keys"] + report["unexpected_keys"] + report["mismatched_keys"]
        except STUMBLES as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{folder}: not a prior that can be loaded ({reason[:200]})") from error
        if wrong:
            raise InputError(
                f"{folder}: the weights do not fit config.json ({len(wrong)} tensors, {wrong[0]} first)"
            )
        # Module.to, because diffusers' own warns of layers to keep in float32 where there are none.
        nn.Module.to(model, torch.float32)
        return cls(model)

    def forward(self, x: Tensor, timestep: Tensor | float) -> Tensor:
        """Return the prediction; see `UNet.forward`."""
        return self.model(x, timestep).sample

    @property
    def config(self) -> Any:
        """Return the model's configuration."""
        return self.model.config

    @property
    def dtype(self) -> torch.dtype:
        """Return the weights' number format."""
        return self.model.conv_in.weight.dtype

    @property
    def device(self) -> torch.device:
        """Return the weights' device."""
        return self.model.conv_in.weight.device

    def prepare_for_inference(self) -> DiffusersUNet:
        """Freeze the weights and lay them out for speed; return itself."""
        use_channels_last(self.eval().requires_grad_(False))
        return self

    def as_json(self) -> dict[str, Any]:
        """Return config.json without where it was loaded from, which is nobody else's business."""
        values = {name: value for name, value in self.config.items() if name != "_name_or_path"}
        return {"_class_name": "UNet2DModel", **values}

    def save(self, folder: Path) -> None:
        """Write what ``UNet2DModel.from_pretrained`` reads."""
        self.model.save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps(self.as_json(), indent=2, sort_keys=True) + "\n")


# A prior's network. It takes images and what `DiffusionPrior.told` says of their noise, and returns its
# prediction.
Network = UNet | PlainUNet | DiffusersUNet
