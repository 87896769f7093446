"""Imports that take seconds."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ddfm.timing import stage


@contextmanager
def importing() -> Iterator[None]:
    """Time the imports of a command, out of the garbage collector's way.

    Importing torch makes some hundred thousand objects, and nearly all of them stay. Searching them for
    garbage would only cost time.
    """
    collecting, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        with stage("import"):
            yield
    finally:
        if len(sys.modules) > known:  # else there is nothing to keep, and garbage would be kept with it
            gc.freeze()
        if collecting:
            gc.enable()
