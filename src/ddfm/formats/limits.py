"""What a file may unpack to, judged by its header before memory is spent.

A file of a few hundred bytes can declare, and one of a few megabytes can hold, more samples than any memory.
There is one limit for all readers: `max_pixels`, which `ddfm --max-pixels N COMMAND` raises and a program may
set. It counts all pages or slices of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ddfm.errors import InputError

MAX_PIXELS = 2**27  # 134 megapixels, or 512 slices of 512x512
BYTES_PER_PIXEL = 4  # of the samples: with that many the limit takes half a gibibyte
RATIO = 50  # decoded bytes for each byte of a file that are allowed in any case: photographs have up to 30
MAX_PAGES = 16_384

_max_pixels = MAX_PIXELS


def set_max_pixels(count: int) -> None:
    """Allow files of that many pixels, for all threads of this process. Raises InputError below 1."""
    global _max_pixels
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"max-pixels {count!r}: must be a whole number, 1 or more")
    _max_pixels = count


@contextmanager
def max_pixels(count: int) -> Iterator[None]:
    """Allow files of that many pixels within the block, for all threads of this process."""
    before = _max_pixels
    set_max_pixels(count)
    try:
        yield
    finally:
        set_max_pixels(before)


def check_decoded(name: str, pixels: int, decoded: int, stored: int) -> None:
    """Refuse a file that would unpack to more than the limit.

    Args:
        pixels: of all its pages or slices.
        decoded: bytes of its samples.
        stored: bytes of the file: a large one may unpack to more bytes than a small one, not to more pixels.

    Raises:
        InputError: naming the option that allows it.
    """
    if pixels > _max_pixels:
        raise InputError(
            f"{name}: declares {pixels} pixels, more than the {_max_pixels} that are allowed; "
            f"ddfm --max-pixels {pixels} COMMAND ... allows them"
        )
    allowed = most_bytes(stored)
    if decoded > allowed:
        needed = -(-decoded // BYTES_PER_PIXEL)
        raise InputError(
            f"{name}: unpacks to {decoded} bytes, more than the {allowed} that are allowed for its size; "
            f"ddfm --max-pixels {needed} COMMAND ... allows them"
        )


def most_bytes(stored: int) -> int:
    """Return how many bytes a file of that size may unpack to."""
    return max(BYTES_PER_PIXEL * _max_pixels, RATIO * stored)


def most_pixels() -> int:
    """Return how many pixels a file may have."""
    return _max_pixels
