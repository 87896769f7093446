"""Diffusion priors: the network, its noise schedule, and what it says of an image."""

from ddfm.priors.base import from_function

__all__ = ["from_function"]
