"""One fusion: read, prepare, sample, restore."""
