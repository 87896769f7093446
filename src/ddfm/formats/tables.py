"""Cells of tables that spreadsheets open."""

from __future__ import annotations

from ddfm.errors import visible

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that spreadsheets compute


def cell(text: str) -> str:
    """Return a name as a cell that no spreadsheet takes for a formula, and without hidden characters."""
    text = visible(text)
    return f"'{text}" if text.startswith(FORMULA) else text
