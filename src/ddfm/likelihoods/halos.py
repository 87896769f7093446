"""Find where an unfocused light spills over what another source shows sharply.

A lamp out of focus is a disc. Its border is sharper than the dark around the lamp that is in focus.
By sharpness alone the disc would win there, as a ring around the lamp. But lamps are brighter than white:
what is clipped where they are sharp comes to light where they are spread. So around what is white, a source
that is the brighter one on the whole, and here, spills.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ddfm.pictures.pyramid import reduce, smooth

WHITE = 0.8  # luminance, of 1, from which on a light may have been clipped
REACH = 15  # pixels of the half-size picture from a light that its disc may reach
AROUND = 3  # times that brightness is halved in size to compare it on the whole: windows of some 16 of those
SPILT = 0.02  # luminance by which the brighter source has to be so on the whole
HERE = 0.03  # luminance by which it has to be so in place
BORDER = 4  # pixels of the half-size picture that the disc's border is wide


def spilled(x: Tensor) -> Tensor:
    """Return how far the light of each source (B, K, H, W) in [-1, 1] spills, 0 to 1, (B, K, h, w)."""
    half = reduce(x)
    light = F.max_pool2d(x.amax(1, keepdim=True), 2, ceil_mode=True) > WHITE
    if not light.any():
        return half.new_zeros(half.shape)
    here = half - half.amin(1, keepdim=True) > HERE
    disc = light.expand_as(here).to(half)
    for _ in range(REACH):  # from the light outwards, as far as this source is the brighter one
        disc = F.max_pool2d(disc, 3, 1, 1) * (here | light)
    whole = smooth(half, AROUND)
    brighter = ((whole - whole.amin(1, keepdim=True)) / SPILT - 1).clamp(0, 1)
    return F.max_pool2d(disc * here, 2 * BORDER + 1, 1, BORDER) * brighter
