"""Thermal cameras' own files: temperatures and photograph in one view, and what is drawn of them."""
