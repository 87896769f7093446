"""Train a luminance prior."""
