"""The tasks medical, exposure and focus, and more than two sources: `__main__` runs the parts."""
