"""Fusion methods side by side on one data set: run, measured, reported.

`methods` says what can be compared, `run` does it, `published` knows what papers claim, and `report`
lays everything out in one HTML file.
"""
