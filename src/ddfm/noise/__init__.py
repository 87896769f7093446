"""Clean noisy sources before fusion: noise level, stripes, compression, posterior mean."""
