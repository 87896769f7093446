"""Diffusion priors: the network, its noise schedule, and what it says of an image."""
