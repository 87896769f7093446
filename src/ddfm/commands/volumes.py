"""`ddfm fuse` on volumes: NIfTI, DICOM series, multi-page TIFF."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddfm.commands.importing import importing
from ddfm.commands.options import checked_prior
from ddfm.commands.terminal import progress_bars, tell_task
from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.formats.volumes import Volume, VolumeRange
    from ddfm.fusion.task import Choice


def are_volumes(paths: Sequence[Path]) -> bool:
    """Whether the sources are volumes. Raises InputError if only some of them are."""
    with importing():
        from ddfm.formats.volumes import is_volume

    found = [is_volume(path) for path in paths]
    if any(found) and not all(found):
        raise InputError(
            f"{paths[found.index(True)]}: is a volume and {paths[found.index(False)]} is none; all or none "
            "of the sources have to be"
        )
    return all(found)


def fuse_volumes(
    paths: Sequence[Path],
    output: Path,
    uncertainty: Path | None,
    prior: str,
    ranges: Sequence[VolumeRange],
    copy_patient: bool,
    options: dict[str, Any],
) -> None:
    """Volumes of one grid, slice by slice, with task, range and noise level chosen once for all slices."""
    with importing():
        from ddfm.formats import volumes
        from ddfm.fusion.pipeline import fuse as fuse_images
        from ddfm.jobs import volumes as jobs
        from ddfm.pictures.image import range_remarks

    if uncertainty:
        raise InputError(f"{uncertainty}: the uncertainty of volumes is not written; leave --uncertainty out")
    if options["register"]:
        raise InputError("--register: volumes are not registered; resample one to the other's grid first")
    start = time.perf_counter()
    model = checked_prior(prior, options, len(paths))
    read = [volumes.read_volume(path, wanted) for path, wanted in zip(paths, ranges, strict=True)]
    volumes.check_same_grid(read)
    volumes.check_volume_writable(output, read)
    for volume in read:
        for remark in range_remarks(volume.slices):
            print(f"{volume.name}: {remark}", file=sys.stderr)
    if options["task"] == "auto" and options["form"] == "ddfm":
        choice = choose_for_volumes(read)
        options = {**options, "task": choice.task}
        print(tell_task(str(output), choice.task, choice.why), file=sys.stderr)
    if options["noise"] is None and options["task"] != "medical" and options["form"] == "ddfm":
        options = {**options, "noise": jobs.noise_levels(read)}
    scales = jobs.shared_scales(read)
    with progress_bars() as bars:
        bar = bars.add_task("slices", total=len(read[0].slices))
        fused = jobs.fuse_volumes(
            read,
            lambda slices: fuse_images(*slices, prior=model, scales=scales, **options).image,
            progress=lambda index: bars.advance(bar),
        )
    volumes.write_volume(output, fused, copy_patient)
    depth, height, width = fused.shape
    seconds = time.perf_counter() - start
    print(f"{output}: {width}x{height}, {depth} slices, {fused.slices[0].depth}, {seconds:.1f} s")


def choose_for_volumes(volumes: Sequence[Volume]) -> Choice:
    """What the format says, or what slices spread over the whole look like."""
    from ddfm.fusion.task import Choice, choose_for_all

    if kinds := {volume.kind for volume in volumes} - {"TIFF"}:
        return Choice("medical", f"the sources are {' and '.join(sorted(kinds))} volumes")
    scenes = list(zip(*(volume.slices for volume in volumes), strict=True))
    return choose_for_all(scenes[:: max(1, len(scenes) // 4)])
