"""Draw a fused image: prior, likelihood and scheduler take turns."""
