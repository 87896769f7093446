"""Image fusion with a diffusion prior."""
