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

    Importing torch makes some hundred thousand objects, nearly all of which stay:
    going through them in search of garbage, now, later and when the command ends, is lost time.
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
