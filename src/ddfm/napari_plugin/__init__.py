"""A plugin for napari: two or more layers in, one fused layer out. napari.yaml beside this file names it."""
