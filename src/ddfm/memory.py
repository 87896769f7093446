"""How much memory a picture takes, and who has how much of it: for several that are fused at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock

from ddfm.restore import STRIP, STRIP_OVERLAP
from ddfm.tiled import SIDE

# Bytes a pixel, measured (benchmarks/memory.py): what is held all the time, and what is in use besides while
# the likelihood is computed, the network asked or chroma put back.
HELD, HELD_A_SOURCE, HELD_A_COLOUR = 30, 24, 8
LIKELIHOOD, LIKELIHOOD_A_SOURCE = 20, 20
SAMPLING = 60  # beside the network
CHROMA, CHROMA_A_COLOUR = 60, 55
MARGINS = 192  # around a part of a large picture
BUNDLED_NETWORK = 640  # what the bundled prior takes in float32; see `ddfm.prior.Prior.bytes_a_pixel`

SHARE = 2  # of the memory at hand, of which a folder run may take one


def peak_bytes(
    height: int, width: int, sources: int, in_colour: int = 0, network: float = 0, tile: int | None = None
) -> int:
    """The memory that one set of sources takes at most, from reading to writing.

    Pictures and what is made of them are held; of likelihood, network and chroma one is at work at a time:
    the likelihood on a part of the picture, the network on a tile, the chroma on a strip.

    Args:
        height: of the sources, pixels.
        width: the same.
        sources: how many there are.
        in_colour: how many of them are.
        network: bytes that an evaluation takes for each pixel, `ddfm.prior.Prior.bytes_a_pixel`; 0 if none
            is made.
        tile: side of the tiles that it is made in; None for one piece.
    """
    pixels = height * width
    held = HELD + HELD_A_SOURCE * sources + HELD_A_COLOUR * in_colour
    part = min(height, SIDE + MARGINS) * min(width, SIDE + MARGINS)
    shown = min(height, tile or height) * min(width, tile or width)
    strip = min(height, STRIP + STRIP_OVERLAP) * width
    working = max(
        part * (LIKELIHOOD + LIKELIHOOD_A_SOURCE * sources),
        pixels * SAMPLING * bool(network) + shown * network,
        strip * (CHROMA + CHROMA_A_COLOUR * in_colour),
    )
    return round(pixels * held + working)


class Budget:
    """Bytes that several threads share."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken = 0
        self.next = Lock()  # in turn: who needs much would wait forever if others took little in between
        self.returned = Condition()

    @contextmanager
    def taking(self, amount: int) -> Iterator[None]:
        """Within it the bytes are this thread's. It waits until there are as many, or nobody else has any.

        So who takes all there is, or more, is alone.
        """
        with self.next, self.returned:
            self.returned.wait_for(lambda: not self.taken or self.taken + amount <= self.total)
            self.taken += amount
        try:
            yield
        finally:
            with self.returned:
                self.taken -= amount
                self.returned.notify_all()
