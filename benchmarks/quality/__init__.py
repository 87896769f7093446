"""The tables of quality: `__main__` runs the parts, which share `tables`."""
