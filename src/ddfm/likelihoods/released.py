"""The EM step as the authors' released code computes it, for comparison."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.likelihoods.paper import ETA, PSI, divergence, gradient, solve_screened_poisson, update_scales


class ReleasedLikelihood:
    """Compute what the authors' released code does, for comparison; it departs from the paper.

    - The sources are exchanged: its I is the visible image, its V the infrared one.
    - x is mirrored about the mean of the sources: it returns I - X, not V + X.
    - n_bar is capped at 2 m_bar.
    - Luminance passes through studio-range YCbCr (Y = 16 .. 235 of 255) meant for [0, 1] images,
      which scales the estimate by 1.164 and shifts it at every step.
    - The gradient drops the wrap-around that its transfer function assumes, and has its sign reversed.
    - The result is stretched between its two most extreme pixels.
    """

    start = None

    def __init__(self, infrared: Tensor, visible: Tensor) -> None:
        self.i, self.v = visible, infrared
        self.tau_a = self.tau_b = visible.new_ones(len(visible), 1, 1, 1)
        self.u = torch.zeros_like(gradient(visible))

    def rectify(self, f0: Tensor) -> Tensor:
        """See `ddfm.likelihoods.base.DataTerm.rectify`."""
        weights = f0.new_tensor((65.481, 128.553, 24.966)).reshape(1, 3, 1, 1)
        studio = ((f0 * weights).sum(1, keepdim=True) + 16) / 255
        # A change of studio Y by d, its chroma kept, changes each of R, G, B by 255/219 d.
        return f0 + 255 / 219 * (self.rectify_luminance(studio) - studio)

    def rectify_luminance(self, f: Tensor) -> Tensor:
        """Do the released EM iteration on a luminance, (B, 1, H, W)."""
        x, y = f - self.v, self.i - self.v
        m_bar = (2 / (self.tau_a * (y - x + 1e-6) ** 2)).sqrt()
        n_bar = (2 / (self.tau_b * (x**2 + 1e-6))).sqrt()
        n_bar = torch.minimum(n_bar, 2 * m_bar)
        self.tau_a, self.tau_b = update_scales(m_bar + 1e-10, n_bar + 1e-10, self.tau_a, self.tau_b)
        k = solve_screened_poisson(y - x + divergence(self.u))
        right = k - F.pad(k[..., 1:], (0, 1))
        below = k - F.pad(k[..., 1:, :], (0, 0, 0, 1))
        self.u = ETA / (2 * PSI + ETA) * torch.cat([right, below], 1)
        x = (2 * m_bar * y + ETA * (y - k)) / (2 * m_bar + 2 * n_bar + ETA)
        return self.i - x

    def finish(self, luma: Tensor, stretch: bool = True) -> Tensor:
        """See `ddfm.likelihoods.base.Likelihood.finish`."""
        if not stretch:
            return ((luma + 1) / 2).clamp(0, 1)
        low, high = luma.amin((1, 2, 3), keepdim=True), luma.amax((1, 2, 3), keepdim=True)
        return (luma - low) / (high - low).clamp_min(torch.finfo(luma.dtype).tiny)
