"""What the sources demand of the fused image: the EM step at every sampling step.

Three forms: ours in `ddfm.hierarchical`, and here the paper's and what its released code computes.

DDFM (Zhao et al., ICCV 2023) splits the L1 distance of the fused image f to an infrared source i and
a visible source v into x = f - v and y = i - v, so that it reads |y - x| + |x|, and writes each term
as a Gaussian with a latent exponential variance per pixel:

    y | x, m ~ N(x, m),  m ~ Exp(gamma)        x | n ~ N(0, n),  n ~ Exp(rho)

with gamma and rho the means of the exponentials. EM alternates the expected precisions of both
(E-step) with the minimiser of the quadratic that they leave, smoothed by psi |grad x|^2 (M-step).

All images are in [-1, 1], shape (B, 1, H, W); what is one number an image has shape (B, 1, 1, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.hierarchical import HierarchicalLikelihood, Task
from ddfm.pictures.colour import luminance

PSI = 0.5  # weight of the smoothness term, "lamb" in the released code
ETA = 0.001  # penalty of the half-quadratic splitting, "rho" in the released code

# The E-step divides by |x - y| and |x|. Below this distance, an eighth of an 8-bit grey level, the
# Laplace density is rounded off: there a difference says nothing about the scene, and the weights
# stay small enough for float32.
EPSILON = 1e-3


class DataTerm(Protocol):
    """What sampling needs of a likelihood."""

    @property
    def start(self) -> Tensor | None:
        """The luminance that the sources alone give, (B, 1, H, W); None if they leave it open."""
        ...

    def rectify(self, f0: Tensor) -> Tensor:
        """One EM iteration on the luminance of f0 (B, C, H, W), C = 1 or 3; same shape out."""
        ...


class Likelihood(DataTerm, Protocol):
    """The data term for one set of sources; keeps its scales from one sampling step to the next."""

    def finish(self, luma: Tensor, stretch: bool = True) -> Tensor:
        """Luminance of the last sample, (B, 1, H, W), as a picture in [0, 1], stretched if the form does."""
        ...


class Unconditional:
    """A likelihood without sources, for drawing from the prior alone."""

    start = None

    def rectify(self, f0: Tensor) -> Tensor:
        return f0

    def finish(self, luma: Tensor, stretch: bool = True) -> Tensor:
        return ((luma + 1) / 2).clamp(0, 1)


# --- The equations of the paper ------------------------------------------------------------------


def e_step(
    x: Tensor, y: Tensor, gamma: Tensor, rho: Tensor, epsilon: float = EPSILON
) -> tuple[Tensor, Tensor]:
    """Expected precisions m_bar = E[1/m] and n_bar = E[1/n] per pixel (paper, eq. 16 to 20)."""
    m_bar = (2 / (gamma * ((x - y) ** 2 + epsilon**2))).sqrt()
    n_bar = (2 / (rho * (x**2 + epsilon**2))).sqrt()
    return m_bar, n_bar


def update_scales(m_bar: Tensor, n_bar: Tensor, gamma: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
    """New gamma and rho: image means of the expected variances E[m] and E[n]."""
    image = (1, 2, 3)
    gamma = (1 / m_bar + gamma / 2).mean(image, keepdim=True)
    rho = (1 / n_bar + rho / 2).mean(image, keepdim=True)
    return gamma, rho


def m_step(
    x: Tensor, y: Tensor, m_bar: Tensor, n_bar: Tensor, u: Tensor, psi: float = PSI, eta: float = ETA
) -> tuple[Tensor, Tensor, Tensor]:
    """One round of half-quadratic splitting, k ~ x and u ~ grad k; returns x, k, u.

    Each line is the exact minimiser over one variable, the others fixed, of

        sum m_bar (x - y)^2 + n_bar x^2 + psi |u|^2 + eta/2 (|x - k|^2 + |grad k - u|^2)

    with forward differences and a circular boundary. u has shape (B, 2, H, W).
    """
    k = solve_screened_poisson(x + divergence(u))
    u = eta / (2 * psi + eta) * gradient(k)
    x = (2 * m_bar * y + eta * k) / (2 * m_bar + 2 * n_bar + eta)
    return x, k, u


def gradient(image: Tensor) -> Tensor:
    """Forward differences along rows and columns, circular: (B, 1, H, W) to (B, 2, H, W)."""
    return torch.cat([image.roll(-1, -1) - image, image.roll(-1, -2) - image], 1)


def divergence(field: Tensor) -> Tensor:
    """Adjoint of `gradient`: (B, 2, H, W) to (B, 1, H, W)."""
    horizontal, vertical = field.split(1, 1)
    return (horizontal.roll(1, -1) - horizontal) + (vertical.roll(1, -2) - vertical)


def solve_screened_poisson(image: Tensor) -> Tensor:
    """(1 + grad^T grad)^-1 image, by FFT."""
    height, width = image.shape[-2:]
    rows = torch.fft.fftfreq(height, device=image.device, dtype=image.dtype)[:, None]
    columns = torch.fft.rfftfreq(width, device=image.device, dtype=image.dtype)[None]
    transfer = 4 * (torch.pi * rows).sin() ** 2 + 4 * (torch.pi * columns).sin() ** 2
    return torch.fft.irfft2(torch.fft.rfft2(image) / (1 + transfer), s=(height, width))


class PaperLikelihood:
    """The paper's EM: scales gamma, rho and the splitting's u carry over from step to step."""

    start = None

    def __init__(self, infrared: Tensor, visible: Tensor) -> None:
        self.v, self.y = visible, infrared - visible
        self.gamma = self.rho = visible.new_ones(len(visible), 1, 1, 1)
        self.u = torch.zeros_like(gradient(visible))

    def rectify(self, f0: Tensor) -> Tensor:
        luma = luminance(f0)
        x = luma - self.v
        m_bar, n_bar = e_step(x, self.y, self.gamma, self.rho)
        self.gamma, self.rho = update_scales(m_bar, n_bar, self.gamma, self.rho)
        x, _, self.u = m_step(x, self.y, m_bar, n_bar, self.u)
        return f0 + (self.v + x - luma)

    def finish(self, luma: Tensor, stretch: bool = True) -> Tensor:
        return ((luma + 1) / 2).clamp(0, 1)


# --- The released code ---------------------------------------------------------------------------


class ReleasedLikelihood:
    """What the authors' released code computes, for comparison; it departs from the paper.

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
        weights = f0.new_tensor((65.481, 128.553, 24.966)).reshape(1, 3, 1, 1)
        studio = ((f0 * weights).sum(1, keepdim=True) + 16) / 255
        # A change of studio Y by d, its chroma kept, changes each of R, G, B by 255/219 d.
        return f0 + 255 / 219 * (self.rectify_luminance(studio) - studio)

    def rectify_luminance(self, f: Tensor) -> Tensor:
        """The released EM iteration (golden/em_released.npz)."""
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
        if not stretch:
            return ((luma + 1) / 2).clamp(0, 1)
        low, high = luma.amin((1, 2, 3), keepdim=True), luma.amax((1, 2, 3), keepdim=True)
        return (luma - low) / (high - low).clamp_min(torch.finfo(luma.dtype).tiny)


def _paper(sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task) -> Likelihood:
    infrared, visible = sources
    return PaperLikelihood(infrared, visible)


def _released(sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task) -> Likelihood:
    infrared, visible = sources
    return ReleasedLikelihood(infrared, visible)


FORMS: dict[str, Callable[[Sequence[Tensor], Sequence[Tensor], Task], Likelihood]] = {
    "ddfm": HierarchicalLikelihood,
    "paper": _paper,
    "released": _released,
}
"""Each from luminances (B, 1, H, W), the noise left in them, (B,), and what kind of sources they are; the
older two know nothing of noise and tasks."""
