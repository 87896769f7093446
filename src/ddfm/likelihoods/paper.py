"""The EM step of the paper.

DDFM (Zhao et al., ICCV 2023) measures the L1 distance of the fused image f to an infrared source i and a
visible source v. With x = f - v and y = i - v it reads |y - x| + |x|. Each term is written as a Gaussian with
a latent exponential variance per pixel:

    y | x, m ~ N(x, m),  m ~ Exp(gamma)        x | n ~ N(0, n),  n ~ Exp(rho)

with gamma and rho the means of the exponentials. The E-step takes the expected precisions of both. The M-step
minimises the quadratic that they leave, smoothed by psi |grad x|^2. EM alternates the two.

All images are in [-1, 1], shape (B, 1, H, W); what is one number an image has shape (B, 1, 1, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddfm.pictures.colour import luminance

PSI = 0.5  # weight of the smoothness term, "lamb" in the released code
ETA = 0.001  # penalty of the half-quadratic splitting, "rho" in the released code
# The E-step divides by |x - y| and |x|. Below this distance, an eighth of an 8-bit grey level, the
# Laplace density is rounded off: there a difference says nothing about the scene, and the weights
# stay small enough for float32.
EPSILON = 1e-3


def e_step(
    x: Tensor, y: Tensor, gamma: Tensor, rho: Tensor, epsilon: float = EPSILON
) -> tuple[Tensor, Tensor]:
    """Return the expected precisions m_bar = E[1/m] and n_bar = E[1/n] per pixel (paper, eq. 16 to 20)."""
    m_bar = (2 / (gamma * ((x - y) ** 2 + epsilon**2))).sqrt()
    n_bar = (2 / (rho * (x**2 + epsilon**2))).sqrt()
    return m_bar, n_bar


def update_scales(m_bar: Tensor, n_bar: Tensor, gamma: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
    """Return the new gamma and rho: image means of the expected variances E[m] and E[n]."""
    image = (1, 2, 3)
    gamma = (1 / m_bar + gamma / 2).mean(image, keepdim=True)
    rho = (1 / n_bar + rho / 2).mean(image, keepdim=True)
    return gamma, rho


def m_step(
    x: Tensor, y: Tensor, m_bar: Tensor, n_bar: Tensor, u: Tensor, psi: float = PSI, eta: float = ETA
) -> tuple[Tensor, Tensor, Tensor]:
    """Do one round of half-quadratic splitting, k ~ x and u ~ grad k; return x, k, u.

    Each line is the exact minimiser over one variable, the others fixed, of

        sum m_bar (x - y)^2 + n_bar x^2 + psi |u|^2 + eta/2 (|x - k|^2 + |grad k - u|^2)

    with forward differences and a circular boundary. u has shape (B, 2, H, W).
    """
    k = solve_screened_poisson(x + divergence(u))
    u = eta / (2 * psi + eta) * gradient(k)
    x = (2 * m_bar * y + eta * k) / (2 * m_bar + 2 * n_bar + eta)
    return x, k, u


def gradient(image: Tensor) -> Tensor:
    """Return forward differences along rows and columns, circular: (B, 1, H, W) to (B, 2, H, W)."""
    return torch.cat([image.roll(-1, -1) - image, image.roll(-1, -2) - image], 1)


def divergence(field: Tensor) -> Tensor:
    """Apply the adjoint of `gradient`: (B, 2, H, W) to (B, 1, H, W)."""
    horizontal, vertical = field.split(1, 1)
    return (horizontal.roll(1, -1) - horizontal) + (vertical.roll(1, -2) - vertical)


def solve_screened_poisson(image: Tensor) -> Tensor:
    """Return (1 + grad^T grad)^-1 image, by FFT."""
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
        """See `ddfm.likelihoods.base.DataTerm.rectify`."""
        luma = luminance(f0)
        x = luma - self.v
        m_bar, n_bar = e_step(x, self.y, self.gamma, self.rho)
        self.gamma, self.rho = update_scales(m_bar, n_bar, self.gamma, self.rho)
        x, _, self.u = m_step(x, self.y, m_bar, n_bar, self.u)
        return f0 + (self.v + x - luma)

    def finish(self, luma: Tensor, stretch: bool = True) -> Tensor:
        """See `ddfm.likelihoods.base.Likelihood.finish`."""
        return ((luma + 1) / 2).clamp(0, 1)
