"""What kind of sources these are: found out from the pictures, for ``task="auto"``.

Medical pictures lie on black. Exposures differ in brightness, but hardly in its order. Focus stacks hardly
differ at a coarse scale. All other sources come from different sensors. The thresholds lie well between the
development data's kinds (benchmarks/results/auto_task.json).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.errors import InputError
from ddfm.pictures.colour import luminance
from ddfm.pictures.image import Image
from ddfm.timing import stage

COARSE = 64  # pixels along the shorter side, at which kinds are told apart
BLACK = 12 / 255
FRAME = 0.04  # of the shorter side
MEDICAL_FRAME, UNCLEAR_FRAME = 0.9, 0.75  # shares of the frame that are black in all sources
MEDICAL_BLACK = 0.2  # share of the picture
BRIGHTER = 16 / 255  # between the darkest and the brightest exposure
ORDERED = 0.9  # mean difference by mean absolute difference: one is the brighter everywhere
SAME_MEAN, SAME_PIXELS = 12 / 255, 24 / 255
# By whether the sources are in colour: grey ones may be infrared and visible, and must be more alike.
SAME_RANKS = {True: 0.4, False: 0.7}

logger = logging.getLogger("ddfm")


class Choice(NamedTuple):
    """A task of `ddfm.likelihoods.tasks.TASKS`, and what speaks for it."""

    task: str
    why: str


class Likeness(NamedTuple):
    """Compare two pictures at a coarse scale, b less a, in [0, 1]."""

    mean: float
    absolute: float
    ranks: float

    @property
    def ordered(self) -> float:
        """Return how much of the difference has one sign: 1 if one picture is the brighter one everywhere."""
        return abs(self.mean) / max(self.absolute, 1e-6)


@stage("task")
def choose_task(sources: Sequence[Image]) -> Choice:
    """Choose the task for two or more sources of one size.

    Raises InputError where it is unclear whether they are medical: intensities of those are not to be
    stretched, and those of others are.
    """
    planes = [luminance(torch.from_numpy(source.pixels).movedim(-1, 0)[None]) for source in sources]
    colour = [source.is_colour for source in sources]
    pairs = [likeness(*(coarse(plane) for plane in pair)) for pair in combinations(planes, 2)]
    brightest = reduce(torch.maximum, planes)[0, 0]
    if not all(colour) and (
        medical := _medical(brightest, alike=not any(colour) and _in_focus(pairs, False))
    ):
        return medical
    if all(colour) or not any(colour):
        if _exposures(pairs, all(colour)):
            apart = round(255 * max(abs(pair.mean) for pair in pairs))
            return Choice("exposure", f"one scene, brighter by up to {apart} grey levels")
        if _in_focus(pairs, all(colour)):
            apart = round(255 * max(pair.absolute for pair in pairs))
            return Choice("focus", f"alike but for details: {apart} grey levels apart on average at most")
    if all(colour):
        return Choice("infrared", "all in colour, but they show different things")
    if not any(colour):
        return Choice("infrared", "grey sources that show different things")
    return Choice("infrared", f"{colour.count(False)} of {len(colour)} sources grey, the rest in colour")


def likely_task(sources: Sequence[Image]) -> Choice:
    """Choose the task of sources of one size that are not aligned yet; infrared where it is unclear.

    The coarse scale that tasks are told at hardly shows what a hand's shake displaces.
    """
    try:
        return choose_task(sources)
    except InputError:  # raised again, if need be, when they are aligned
        return Choice("infrared", "")


def coarse(plane: Tensor) -> Tensor:
    """Average a plane (1, 1, H, W) over blocks, (h, w)."""
    return F.avg_pool2d(plane, max(1, min(plane.shape[-2:]) // COARSE))[0, 0]


def likeness(a: Tensor, b: Tensor) -> Likeness:
    """Compare two pictures at a coarse scale."""
    difference = b - a
    agreement = torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1]
    return Likeness(float(difference.mean()), float(difference.abs().mean()), float(agreement))


def ranks(plane: Tensor) -> Tensor:
    """Return each pixel's rank by brightness, (h w,); equal ones, as clipped whites, share theirs."""
    _, inverse, counts = plane.flatten().unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - counts / 2).double()[inverse]


def _medical(brightest: Tensor, alike: bool) -> Choice | None:
    """Tell medical sources by the brightest of all sources, (H, W)."""
    width = max(1, round(FRAME * min(brightest.shape)))
    inside = torch.zeros_like(brightest, dtype=torch.bool)
    inside[width:-width, width:-width] = True
    black = brightest < BLACK
    frame, picture = float(black[~inside].float().mean()), float(black.float().mean())
    if frame < UNCLEAR_FRAME or picture < MEDICAL_BLACK:
        return None
    evidence = f"{frame:.0%} of the border and {picture:.0%} of the picture are black in all sources"
    if frame < MEDICAL_FRAME or alike:
        raise InputError(
            f"{evidence}: they may be medical or not, and whether intensities may be stretched depends on "
            "it; name the task (--task medical, infrared, exposure or focus)"
        )
    return Choice("medical", evidence)


def _exposures(pairs: Sequence[Likeness], colour: bool) -> bool:
    brighter = max(abs(pair.mean) for pair in pairs) > BRIGHTER
    return brighter and all(pair.ordered > ORDERED and pair.ranks > SAME_RANKS[colour] for pair in pairs)


def _in_focus(pairs: Sequence[Likeness], colour: bool) -> bool:
    return all(
        abs(pair.mean) < SAME_MEAN
        and pair.ranks > SAME_RANKS[colour]
        and (colour or pair.absolute < SAME_PIXELS)
        for pair in pairs
    )


def choose_for_all(scenes: Sequence[Sequence[Image]]) -> Choice:
    """Choose the task of a batch. Raises InputError if its pictures differ; see also `choose_task`."""
    choices = [choose_task(scene) for scene in scenes]
    if len({choice.task for choice in choices}) > 1:
        found = ", ".join(choice.task for choice in choices)
        raise InputError(f"the batch holds different tasks ({found}); name one, or fuse them apart")
    choice = choices[0]
    # That intensities are left as they are, or are not, should not pass unnoticed.
    level = logging.WARNING if choice.task == "medical" else logging.INFO
    logger.log(level, "task %s: %s", *choice)
    return choice
