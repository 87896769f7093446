"""What sampling needs of a prior, and a prior made of a plain function.

As in Karras et al. 2022 (EDM), a prior is a denoiser D(x; sigma), with the noise levels at which it may be
asked. It returns the posterior mean of the clean image under white Gaussian noise of deviation sigma.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddfm.errors import InputError
from ddfm.pictures.tiles import Padding, Tile

BYTES_A_PIXEL = 416  # that an evaluation is reckoned with where nobody knows: the bundled prior's, in float32


class Prior(Protocol):
    """Say what natural images look like. Images are in [-1, 1], shape (B, C, H, W), C = 1 or 3."""

    @property
    def name(self) -> str:
        """Return the prior's name in results and messages."""
        ...

    @property
    def channels(self) -> int:
        """Return image channels: 1 (luminance) or 3 (RGB)."""
        ...

    @property
    def multiple(self) -> int:
        """Return the number of pixels that height and width are multiples of, without padding."""
        ...

    @property
    def sigmas(self) -> Tensor:
        """Return the noise levels of its timesteps, increasing, float64, shape (T,)."""
        ...

    @property
    def tile(self) -> int | None:
        """Return the side of the tiles that larger images are shown in; None for one piece."""
        ...

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[clean | x] for noise of standard deviation sigma, scalar or (B,); shape of ``x``."""
        ...

    def to(self, device: torch.device | str, dtype: torch.dtype = ..., backend: str = ...) -> Prior:
        """Return this prior computing there, in that number format, by that back end."""
        ...

    def for_tiles(self, tile: Tile, height: int, width: int) -> Prior:
        """Return this prior with tiles for pictures of that size."""
        ...

    def evaluation_bytes(self, height: int, width: int) -> int:
        """Return the memory that an evaluation takes for a picture of that size."""
        ...


def linear_sigmas() -> Tensor:
    """Return the 1000 noise levels of the linear schedule, increasing, float64 (Ho et al. 2020)."""
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


@dataclass(frozen=True)
class FunctionPrior:
    """A prior made of a function. See `from_function`."""

    denoised: Callable[[Tensor, Tensor], Tensor]
    channels: int
    multiple: int
    name: str
    sigmas: Tensor
    tile: int | None = None

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Denoise as `Prior.denoise`. Raises InputError if the function's result has another shape."""
        padding = Padding.to_multiple(x.shape[-2], x.shape[-1], self.multiple)
        shown = padding.pad(x)
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1).expand(len(x))
        with torch.inference_mode():
            clean = self.denoised(shown, level)
        if clean.shape != shown.shape:
            raise InputError(
                f"prior {self.name}: returned shape {tuple(clean.shape)} for {tuple(shown.shape)}"
            )
        return padding.crop(clean)

    def to(
        self, device: torch.device | str, dtype: torch.dtype = torch.float32, backend: str = "torch"
    ) -> FunctionPrior:
        """Return the prior itself: where a function computes is its own affair."""
        if backend != "torch":
            raise InputError(f"prior {self.name}: is a function, which backend {backend} cannot evaluate")
        return self

    def for_tiles(self, tile: Tile, height: int, width: int) -> FunctionPrior:
        """Return the prior itself: a function sees whole images."""
        return self

    def evaluation_bytes(self, height: int, width: int) -> int:
        """Return what an evaluation is reckoned with."""
        return BYTES_A_PIXEL * height * width


def from_function(
    denoised: Callable[[Tensor, Tensor], Tensor],
    channels: int = 1,
    multiple: int = 8,
    name: str = "function",
    sigmas: Tensor | None = None,
) -> Prior:
    """Make a prior of a function or module (x, sigma) -> x0.

    Args:
        denoised: from noisy images, (B, C, H, W) in [-1, 1] units, and the standard deviation of the noise
            of each, (B,), to the clean ones.
        channels: 1 for luminance, 3 for RGB.
        multiple: images are padded to multiples of it.
        name: what results call the prior.
        sigmas: noise levels to step through, increasing; by default those of the linear schedule of
            1000 timesteps (Ho et al. 2020).

    Raises:
        InputError: the noise levels are not positive and increasing.
    """
    levels = linear_sigmas() if sigmas is None else torch.as_tensor(sigmas, dtype=torch.float64)
    if levels.ndim != 1 or not len(levels) or not bool((levels.diff(prepend=levels.new_zeros(1)) > 0).all()):
        raise InputError(f"prior {name}: sigmas have to be positive and increasing")
    return FunctionPrior(denoised, channels, multiple, name, levels)
