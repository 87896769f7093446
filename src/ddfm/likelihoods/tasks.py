"""The constants of the likelihood that differ between kinds of sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EVEN = 0.5  # the balance that prefers no source
BANDS = 4  # bands of details of 1 to 8 pixels; what is left is intensity (a task may have more)
MAGNITUDE_FLOOR, MAGNITUDE_POWER = 0.02, 2.3  # saliency of intensities (eq. 2m)
MAX_GAIN = 2.2  # of energy, where details are averaged (eq. 10)


@dataclass(frozen=True)
class Task:
    """Hold what differs between kinds of sources; intensities are in [-1, 1], where a grey level is 2/255.

    Attributes:
        name: what results and messages call it.
        union: most of the weight of the joint explanation of intensities, where sources are weighed by their
            structure (eq. 1 to 5); None where they are by what follows.
        local: how firmly structure decides in a place (eq. 2).
        overall: how firmly the structure of the whole picture decides (eq. 2).
        against: logarithm of odds from which on more structure elsewhere counts less and less (eq. 2).
        bright: how firmly the brighter source is chosen, if it is lit or hot (eq. 2).
        lit: power of the intensity that tells what is lit or hot (eq. 2).
        absent: how firmly a dark source is passed over where another shows more (eq. 2).
        present: structure that is as likely to say something as not (eq. 3).
        followed: power of the weights of intensities that the details follow (eq. 7).
        energy_power: how firmly the stronger detail is preferred (eq. 7).
        brightness: how far bright intensities are more salient than dark ones (eq. 2m).
        energy_floor: details below this energy leave the choice between sources open (eq. 7).
        acutance: contrast of the bands, finest first (eq. 11).
        overshoot: share kept of what lies outside the sources' range (eq. 12).
        room: share of their distance from black and white that shadows and highlights keep; above 0 the
            intensities make room for details, instead of what ``overshoot`` says (eq. 21, 22).
        stretch: how far the contrast may be raised at the end (eq. 14).
        magnitude: power of the deviation from the common mean in the saliency of intensities (eq. 2m).
        magnitude_floor: deviation below which it hardly counts (eq. 2m).
        exposedness: power of the well-exposedness in it; above 0 details come from where they are well
            exposed, too (eq. 15).
        sharpness: how firmly the sharpest source is chosen; above 0 that choice takes the place of the
            saliency of intensities, and the details follow it (eq. 16 to 18).
        gain: most of the energy that is given back where details are averaged (eq. 10).
        knee: luminance, of 1, from which on the range is compressed rather than clipped (eq. 19).
        least_chroma: share of the chroma that makes the luminance give way where it does not fit (eq. 20).
        chroma: whose chroma: by saturation, by exposure and saturation, or the chosen source's.
        chroma_noise: standard deviation of what noise dark colours have, of 1; above 0 chroma is shrunk where
            the fused picture is brighter than the one that has it (eq. 23).
        denoises: whether noisy sources are denoised unless the user says otherwise.
        one_camera: whether all sources come from one camera, so that one range holds for all of them.
        moving: whether things may move between the sources, which are taken one after another.
        centre: mean of all sources' intensities, for pictures that share it; None for each picture's own.
        energy: mean square of the local intensities about it, likewise.
        balance: how far the thermal source is preferred to the others: 0 for what is hot in it alone, .5 for
            none preferred, 1 for it alone (eq. 5b); where structure decides.
        thermal: which source that is.

    There are as many bands as ``acutance`` has entries.
    """

    name: str
    union: float | None
    brightness: float
    energy_floor: float
    acutance: tuple[float, ...]
    overshoot: float
    stretch: float
    local: float = 3.0
    overall: float = 5.0
    against: float = 6.0
    bright: float = 45.0
    lit: float = 5.5
    absent: float = 14.0
    present: float = 0.0095
    followed: float = 0.18
    energy_power: float = 2.5
    magnitude: float = MAGNITUDE_POWER
    magnitude_floor: float = MAGNITUDE_FLOOR
    exposedness: float = 0.0
    sharpness: float = 0.0
    gain: float = MAX_GAIN
    room: float = 0.0
    knee: float = 1.0
    least_chroma: float = 0.0
    chroma: Literal["saturation", "exposure", "choice"] = "saturation"
    chroma_noise: float = 0.0
    denoises: bool = True
    one_camera: bool = False
    moving: bool = False
    centre: float | None = None
    energy: float | None = None
    balance: float = 0.5
    thermal: int = 0

    @property
    def mixing(self) -> float:
        """Return how far the balance leaves room for mixtures of sources: 1 in the middle, 0 at the ends."""
        return 4 * self.balance * (1 - self.balance)


# Chosen on TNO, MSRS, RoadScene and VIFB together, and on halves of MRI with CT, PET and SPECT
# (`python benchmarks quality`). Medical intensities mean something: nothing is added, sharpened or stretched.
TASKS = {
    "infrared": Task(
        name="infrared",
        union=0.65,
        brightness=0.0,
        energy_floor=0.002,
        acutance=(1.35, 1.07, 1.05, 1.05, 1.0),
        overshoot=0.2,
        stretch=1.06,
        energy_power=1.25,
        gain=2.7,
        chroma_noise=10 / 255,
    ),
    "medical": Task(
        "medical", None, 3.0, 0.001, (1.0, 1.0, 1.0, 1.0), 0.1, 1.0, least_chroma=0.25, denoises=False
    ),
    # Chosen on MEFB and MFIFB. Exposures differ at all scales: bands up to 64 pixels. The one that is exposed
    # in the middle deviates least from the common mean, hence the high floor; of two that are exposed alike
    # the brighter one is less noisy. Intensities make room for details, which a stretch would take again.
    # What is in focus is a copy of one source: nothing outside the sources' range, no energy given back.
    "exposure": Task(
        name="exposure",
        union=None,
        brightness=0.3,
        energy_floor=1e-5,
        acutance=(1.0,) * 7,
        overshoot=1.0,
        stretch=1.0,
        magnitude=3.4,
        magnitude_floor=0.2,
        exposedness=1.2,
        gain=1.0,
        room=0.55,
        knee=0.85,
        least_chroma=0.25,
        chroma="exposure",
        one_camera=True,
        moving=True,
    ),
    "focus": Task(
        name="focus",
        union=None,
        brightness=0.0,
        energy_floor=0.001,
        acutance=(1.0,) * BANDS,
        overshoot=0.0,
        stretch=1.0,
        sharpness=8.0,
        gain=1.0,
        chroma="choice",
        one_camera=True,
    ),
}
