"""One HTML file with everything a run has to tell; the page loads nothing else."""

from ddfm.benchmark.report.page import marks, render, write

__all__ = ["marks", "render", "write"]
