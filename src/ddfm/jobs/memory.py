"""How much memory a picture takes, and who has how much of it: for several that are fused at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock

from ddfm.fusion.restore import strip_of
from ddfm.likelihoods.tasks import TASKS
from ddfm.likelihoods.tiled import SIDE

# Bytes a pixel, measured (benchmarks/memory.py). Some are held all the time. The others are in use besides,
# while the likelihood is computed, the network asked, chroma put back or movement looked for.
HELD, HELD_A_SOURCE, HELD_A_COLOUR = 15, 24, 10
LIKELIHOOD, LIKELIHOOD_A_SOURCE = 38, 20
# While the network is asked: the sample, its start, the estimate, and the network's input three times over.
SAMPLING = 24
# What a likelihood keeps meanwhile: two bounds, the candidates with their weights, and the bands. A band has
# coefficients, and energies and weights at half its resolution. All bands are 4/3 of the finest.
KEPT, KEPT_A_SOURCE = 17, 13
CHROMA, CHROMA_A_COLOUR = 95, 75
GHOSTS = 230
MARGINS = 192  # around a part of a large picture

# Bytes, whatever the size: weights, and their copies in the order that is computed in.
AROUND_NETWORK = 40 * 2**20

MEMORY_FRACTION = 1 / 2  # of the free memory, for one folder run


def peak_bytes(
    height: int, width: int, sources: int, in_colour: int = 0, evaluation: int = 0, task: str = "infrared"
) -> int:
    """Return the memory that one set of sources takes at most, from reading to writing.

    Pictures and what is made of them are held throughout. Likelihood, network and chroma work one at a time:
    on a part of the picture, a tile and a strip. Before them exposures are compared for what moves.

    Args:
        height: of the sources, pixels.
        width: the same.
        sources: how many there are.
        in_colour: how many of them are.
        evaluation: bytes that the network takes, `Prior.evaluation_bytes`; 0 if it is not asked.
        task: what the sources are; that decides on the strips, and on the search for what moves.
    """
    pixels = height * width
    part = min(height, SIDE + MARGINS) * min(width, SIDE + MARGINS)
    strip = min(height, sum(strip_of(TASKS[task]))) * width
    held = pixels * (HELD + HELD_A_SOURCE * sources + HELD_A_COLOUR * in_colour)
    likelihood = part * (LIKELIHOOD + LIKELIHOOD_A_SOURCE * sources)
    kept = part * (KEPT + KEPT_A_SOURCE * sources)
    network = evaluation + pixels * SAMPLING + kept + AROUND_NETWORK if evaluation else 0
    chroma = strip * (CHROMA + CHROMA_A_COLOUR * in_colour) if in_colour else 0
    ghosts = pixels * GHOSTS if task == "exposure" else 0
    return held + max(likelihood, network, chroma, ghosts)


class Budget:
    """Bytes that several threads share."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken = 0
        self.next = Lock()  # in turn: who needs much would wait forever if others took little in between
        self.returned = Condition()

    @contextmanager
    def taking(self, amount: int) -> Iterator[None]:
        """Take bytes for this thread; wait until there are as many, or nobody else has any.

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
