"""Fuse volumes slice by slice, with one task, range and noise level for all slices."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddfm.errors import InputError
from ddfm.formats.files import is_folder
from ddfm.formats.paths import check_paths, files_below
from ddfm.formats.volumes import (
    Volume,
    VolumeRange,
    check_same_grid,
    check_volume_writable,
    read_volume,
    write_volume,
)
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion
from ddfm.fusion.task import Choice
from ddfm.jobs.slices import noise_levels, shared_scales
from ddfm.pictures.image import Image, range_remarks

if TYPE_CHECKING:
    from ddfm.priors.lazy import PriorSource

TELLING_SLICES = 4  # spread over the volume, that its task is chosen by


@dataclass(frozen=True)
class VolumeResult:
    """Tell what `fuse_volumes` made.

    Attributes:
        path: the file or folder.
        volume: what it holds.
        choice: the task, and why it was chosen.
        remarks: what a user should know of the sources' ranges, one sentence each.
    """

    path: Path
    volume: Volume
    choice: Choice
    remarks: list[str]


def fuse_volumes(
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: Options | None = None,
    *,
    prior: PriorSource = "natural",
    ranges: Sequence[VolumeRange] | None = None,
    copy_patient: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> VolumeResult:
    """Fuse volumes of one grid: NIfTI files, folders with a DICOM series each, multi-page TIFF.

    The result is written as what the first source is, with its header, units and depth.

    Args:
        sources: two or more.
        output: file to write; for DICOM a folder that is new or empty.
        options: as for `ddfm.fuse`; its number of sources is that of the volumes.
        prior: as for `ddfm.fuse`.
        ranges: values that stand for black and white in each source, or "window"; None for the files' own.
        copy_patient: keep tags that name the patient.
        progress: called with the number of slices that are done, and that of all.

    Raises:
        InputError: a source cannot be read, the grids differ, or the output cannot be written.
    """
    paths, output = [Path(source) for source in sources], Path(output)
    options = (options or Options()).but(sources=len(paths))
    if options.uncertainty:
        raise InputError(f"{output}: the uncertainty of volumes is not written; leave --uncertainty out")
    if options.source_map:
        raise InputError(f"{output}: the source map of volumes is not written; leave --source-map out")
    if options.deblur == "auto":
        raise InputError("--deblur auto: slices would differ; give the blur of each volume, as in 2,0")
    if options.masks is not None:
        raise InputError(f"{output}: the pixels of volumes are not masked; leave --mask out")
    if options.register:
        raise InputError("--register: volumes are not registered; resample one to the other's grid first")
    folders = [path for path in paths if is_folder(path)]
    check_paths([*paths, *files_below(folders)], [output])
    Fusion(options, prior).check_prior()
    volumes = [
        read_volume(path, wanted) for path, wanted in zip(paths, ranges or [None] * len(paths), strict=True)
    ]
    check_same_grid(volumes)
    check_volume_writable(output, volumes)
    fusion, choice = for_all_slices(volumes, options, prior)
    volume = fused_slices(volumes, lambda slices: fusion.of([slices], choice)[0].image, progress)
    write_volume(output, volume, copy_patient)
    remarks = [f"{v.name}: {remark}" for v in volumes for remark in range_remarks(v.slices)]
    return VolumeResult(output, volume, choice, remarks)


def fused_slices(
    volumes: Sequence[Volume],
    fuse: Callable[[list[Image]], Image],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Volume:
    """Fuse volumes of one grid slice by slice; the result has the first one's header, units and depth.

    Args:
        fuse: from one slice of each volume to the fused one, in the first one's range; the same for all.
        progress: called with the number of slices that are done, and that of all.

    Raises:
        InputError: the grids differ, or what ``fuse`` raises.
    """
    check_same_grid(volumes)
    scenes, fused = list(zip(*(volume.slices for volume in volumes), strict=True)), []
    for scene in scenes:
        fused.append(fuse(list(scene)))
        progress(len(fused), len(scenes))
    return replace(volumes[0], slices=tuple(alike(fused)), name="fused")


def for_all_slices(volumes: Sequence[Volume], options: Options, prior: PriorSource) -> tuple[Fusion, Choice]:
    """Return a fusion whose task, noise levels and scales are the same for all slices; and the task."""
    fusion = Fusion(options, prior)
    choice = choose_for_volumes(volumes, fusion)
    centre, energy = shared_scales(volumes)
    task = replace(fusion.task_of(choice), centre=centre, energy=energy)
    noise = options.noise_for(task)
    if noise == "auto":
        noise = noise_levels(volumes)
    return Fusion(options.but(task=task, noise=noise), fusion.prior), choice


def choose_for_volumes(volumes: Sequence[Volume], fusion: Fusion) -> Choice:
    """Return the task: as asked, as the format says, or as slices spread over the whole look."""
    kinds = {volume.kind for volume in volumes} - {"TIFF"}
    if fusion.options.finds_task and kinds:
        return Choice("medical", f"the sources are {' and '.join(sorted(kinds))} volumes")
    scenes = list(zip(*(volume.slices for volume in volumes), strict=True))
    return fusion.chosen(scenes[:: max(1, len(scenes) // TELLING_SLICES)])


def alike(slices: Sequence[Image]) -> list[Image]:
    """Return the slices, grey ones in three channels if any is in colour."""
    if not any(image.is_colour for image in slices):
        return list(slices)
    return [replace(image, pixels=np.broadcast_to(image.pixels, (*image.size, 3))) for image in slices]
