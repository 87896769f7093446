"""One HTML file with everything a run has to tell; the page loads nothing else."""

from ddfm.benchmark.report.page import files_written, marks, render, write

__all__ = ["files_written", "marks", "render", "write"]
