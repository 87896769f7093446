"""Do a job: fuse pictures or volumes, draw a preview, measure. Runs in a worker process, with torch."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor

from ddfm.benchmark.evaluation import MethodResult, mean_ranks
from ddfm.benchmark.methods import BASELINES, RULES, SEED, as_bytes, on_luminance
from ddfm.errors import InputError
from ddfm.formats.heatmap import picture_path
from ddfm.formats.pictures import read_image, suffix_for, write_image
from ddfm.formats.radiometric import Overrides
from ddfm.formats.volumes import VolumeRange, read_volume
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion
from ddfm.fusion.restore import template
from ddfm.fusion.sources import match_sizes, resampled
from ddfm.jobs.files import Given, Outputs, check_outputs, read_sources, write_result
from ddfm.jobs.volumes import fuse_volumes
from ddfm.likelihoods.forms import FORMS
from ddfm.metrics import METRICS, evaluate
from ddfm.pictures.image import MINIMUM_SIDE, Image, range_remarks
from ddfm.priors.lazy import LazyPrior
from ddfm.priors.loading import load_prior
from ddfm.sampling.loop import Step
from ddfm.serve.folders import Folders, put, size_of
from ddfm.serve.requests import OUTPUTS, THERMAL
from ddfm.serve.store import Job, Store
from ddfm.thermal.draw import drawn
from ddfm.thermal.options import ThermalOptions

PREVIEW_SIDE = 360  # pixels of the picture that is shown while it samples
QUICK_SIDE = 640  # of the one that answers the slider
MOST_SOURCES_KEPT = 4  # sets of sources that sliders are being moved for


class LostError(Exception):
    """Say that the job was cancelled, or given to another worker."""


class Workshop:
    """Hold what a worker keeps between jobs: priors that are loaded, and sources that are looked at."""

    def __init__(self, store: Store, folders: Folders) -> None:
        self.store, self.folders = store, folders
        self.priors: dict[tuple[str, torch.dtype], LazyPrior] = {}
        self.looked_at: dict[str, Given] = {}

    def fusion(self, job: Job, changes: dict[str, Any] | None = None) -> Fusion:
        """Return the fusion with a job's options; its prior is loaded once. Raises InputError."""
        others = (*THERMAL, "range", "prior", "temperatures")
        wanted = {name: v for name, v in job.request["options"].items() if name not in others}
        name = job.request["options"].get("prior", "natural")
        options = Options(**wanted | (changes or {}), sources=max(2, len(job.request["sources"])))
        key = name, options.torch_dtype
        if key not in self.priors:
            self.priors[key] = LazyPrior.of(
                lambda: load_prior(name), options.torch_device, options.torch_dtype, options.backend
            )
        return Fusion(options, self.priors[key])

    def sources(self, id_: str, request: dict[str, Any]) -> list[Path]:
        """Return where a fusion's sources lie."""
        return [self.folders.job(id_) / source["file"] for source in request["sources"]]

    # Pictures.

    def fuse(self, jobs: Sequence[Job]) -> None:
        """Fuse jobs of one size and one set of options at once. Raises InputError, LostError."""
        fusion = self.fusion(jobs[0])
        fusion.check_prior()
        given = [self.given(job, fusion) for job in jobs]
        scenes = [one.images for one in given]
        outputs = [self.outputs(job, scene, fusion.options) for job, scene in zip(jobs, scenes, strict=True)]
        choices = [one.choice(fusion.options) or fusion.chosen([one.images]) for one in given]
        if len({choice.task for choice in choices}) > 1:
            raise InputError("the batch holds different tasks")  # they are taken one by one then
        steps = fusion.options.evaluations
        held = self.held(jobs, steps)

        def after_step(step: Step) -> None:
            for k in held:
                put(self.folders.preview(jobs[k].id), step_picture(step.rectified[k, 0]))
            held[:] = [k for k in held if self.store.progress(jobs[k], step.index + 1, steps)]
            if not held:
                raise LostError

        results = fusion.of(scenes, choices[0], after_step)
        for k in held:
            image = write_result(outputs[k], results[k], given[k].placed, thermal_options(jobs[k]))
            self.write_others(outputs[k].fused, image)
            self.write_views(jobs[k], outputs[k], scenes[k], image)
            settings = results[k].settings | {"why": choices[k].why}
            if len(jobs) > 1:
                settings["fused_at_once"] = len(jobs)
            remarks = self.remarks(jobs[k], given[k])
            self.done(
                jobs[k], outputs[k].fused, image, settings, remarks, shown=shown_names(jobs[k], given[k])
            )

    def given(self, job: Job, fusion: Fusion) -> Given:
        """Read a job's sources and bring them into one view. Raises InputError."""
        id_ = job.request.get("fusion", job.id)
        outputs = Outputs(self.folders.job(id_) / "fused")
        if job.request["options"].get("temperatures"):
            outputs = replace(outputs, temperatures=self.folders.job(id_) / OUTPUTS["temperatures"])
        paths = self.sources(id_, job.request)
        return read_sources(paths, ranges_of(job), fusion, outputs, thermal_options(job))

    def remarks(self, job: Job, given: Given) -> list[str]:
        """Return what a user should know of the sources, without a path of ours."""
        said = []
        if given.placed is not None:
            thermogram = given.placed.thermogram
            said = [
                thermogram.uncalibrated and f"no temperatures: {thermogram.uncalibrated}",
                given.placed.how,
            ]
        said += [f"{image.name}: {remark}" for image in given.images for remark in range_remarks([image])]
        sources = self.sources(job.id, job.request)
        return [shorter(text, sources, names_of(job)) for text in said if text]

    def held(self, jobs: Sequence[Job], steps: int) -> list[int]:
        """Note that jobs are begun; return the places of those that nobody cancelled. Raises LostError."""
        held = [k for k, job in enumerate(jobs) if self.store.progress(job, 0, steps)]
        if not held:
            raise LostError
        return held

    def outputs(self, job: Job, scene: Sequence[Image], options: Options) -> Outputs:
        """Return where a fusion's results go. Raises InputError if they cannot be written."""
        folder = self.folders.job(job.id)
        (folder / "views").mkdir(exist_ok=True)
        suffix = suffix_for(template(scene, options.colour_from).depth)
        asked = job.request["options"]
        std, source_map, temperatures = (
            folder / name if asked.get(option) else None for option, name in OUTPUTS.items()
        )
        outputs = Outputs(folder / f"fused{suffix}", std, source_map=source_map, temperatures=temperatures)
        check_outputs(outputs, scene, options.colour_from)
        return outputs

    def write_others(self, fused: Path, image: Image) -> None:
        """Write the result in 8 and in 16 bits, beside what the command would write, unless that is it."""
        for depth in (np.dtype(np.uint8), np.dtype(np.uint16)):
            if image.depth != depth or not image.is_display:
                other = replace(image, depth=depth, value_range=None, resolution=None)
                write_image(fused.with_name(f"fused-{8 * depth.itemsize}.png"), other)

    def write_views(self, job: Job, outputs: Outputs, scene: Sequence[Image], fused: Image) -> None:
        """Write what the page shows: sources as they were fused, result and uncertainty, 8-bit PNG."""
        for k, image in enumerate(scene):
            put(self.folders.view(job.id, f"source-{k + 1}"), as_png(as_bytes(image)))
        put(self.folders.view(job.id, "fused"), as_png(as_bytes(fused)))
        if outputs.source_map:
            with PILImage.open(outputs.source_map) as labels:
                put(self.folders.view(job.id, "source-map"), as_png(np.asarray(labels.convert("RGB"))))
        if outputs.std:
            heat = picture_path(outputs.std)
            with PILImage.open(heat) as drawing:
                put(
                    self.folders.view(job.id, "uncertainty"),
                    as_png(np.asarray(drawing.crop((0, 0, fused.size[1], fused.size[0])))),
                )

    def done(
        self,
        job: Job,
        path: Path,
        image: Image,
        settings: dict[str, Any],
        remarks: list[str],
        slices: int = 1,
        shown: Sequence[str] = (),
    ) -> None:
        """Note that a fusion is done, and what it made.

        Args:
            shown: a name for each source that has a view.
        """
        result = {
            "file": path.name,
            "width": image.size[1],
            "height": image.size[0],
            "slices": slices,
            "depth": image.depth.name,
            "colour": image.is_colour,
            "settings": settings,
            "remarks": remarks,
            "shown": list(shown),
            "measurable": len(shown) == 2 and slices == 1 and not is_drawn(job),
            "threads": torch.get_num_threads(),
        }
        self.store.finish(job, result, size_of(self.folders.job(job.id)))

    # Volumes.

    def fuse_volumes(self, job: Job) -> None:
        """Fuse volumes slice by slice. Raises InputError, LostError."""
        fusion = self.fusion(job)
        sources = self.sources(job.id, job.request)
        output = self.folders.job(job.id) / f"fused{job.request['sources'][0]['suffix']}"
        ranges = ranges_of(job)

        def after_slice(done: int, total: int) -> None:
            if not self.store.progress(job, done, total):
                raise LostError

        result = fuse_volumes(
            sources, output, fusion.options, prior=fusion.prior, ranges=ranges, progress=after_slice
        )
        (self.folders.job(job.id) / "views").mkdir(exist_ok=True)
        volumes = {
            f"source-{k + 1}": read_volume(path, wanted)
            for k, (path, wanted) in enumerate(zip(sources, ranges, strict=True))
        }
        for name, volume in (volumes | {"fused": result.volume}).items():
            for n, image in enumerate(volume.slices):
                put(self.folders.view(job.id, name, n + 1), as_png(as_bytes(image)))
        first = result.volume.slices[0]
        settings = {
            "task": result.choice.task,
            "why": result.choice.why,
            "form": fusion.options.likelihood_form.name,
            "steps": fusion.options.evaluations,
            "seed": fusion.options.seed,
            "balance": fusion.options.balance,
        }
        remarks = [shorter(remark, sources, names_of(job)) for remark in result.remarks]
        if output.is_dir():
            output = zipped(output)
        self.done(job, output, first, settings, remarks, len(result.volume.slices), names_of(job))

    # The slider.

    def preview(self, job: Job) -> None:
        """Draw a small fused picture without sampling, to answer a slider. Raises InputError, LostError."""
        fusion_id = job.request["fusion"]
        if FORMS[job.request["options"].get("form", "ddfm")].least_steps:
            raise InputError("form: only ddfm has a quick preview")
        fusion = self.fusion(job, {"steps": 0, "uncertainty": False, "source_map": False})
        given = self.looked_at.pop(fusion_id, None) or reduced(self.given(job, fusion))
        self.looked_at[fusion_id] = given
        if len(self.looked_at) > MOST_SOURCES_KEPT:
            self.looked_at.pop(next(iter(self.looked_at)))
        (result,) = fusion.of([given.images], given.choice(fusion.options))
        image = result.image
        if given.placed is not None:
            image = drawn(image, given.placed, replace(thermal_options(job), annotate=False))
        folder = self.folders.job(job.id)
        folder.mkdir(exist_ok=True)
        put(folder / "preview.png", as_png(as_bytes(image)))
        self.store.finish(job, {"task": result.settings["task"]}, size_of(folder))

    # Metrics.

    def evaluate(self, job: Job) -> None:
        """Measure a fused picture beside the trivial baselines. Raises InputError."""
        request = job.request
        if "fusion" in request:
            views = self.folders.jobs / request["fusion"] / "views"
            paths = [views / f"{name}.png" for name in ("source-1", "source-2", "fused")]
            if not all(path.is_file() for path in paths):
                raise InputError("fusion: its files have expired")
            a, b, fused = (read_image(path) for path in paths)
        else:
            a, b, fused = (read_image(path) for path in self.sources(job.id, request))
            match_sizes([a, b, fused], False)
        pictures = {"fused": fused} | {
            name: on_luminance(RULES[name], SEED, a, b) if name in RULES else {"a-only": a, "b-only": b}[name]
            for name in BASELINES
        }
        sources = as_tensor(a), as_tensor(b)
        methods: dict[str, dict[str, float]] = {}
        for name, picture in pictures.items():
            values = evaluate(*sources, as_tensor(picture), request["convention"])
            methods[name] = {metric: value.item() for metric, value in values.items()}
            if not self.store.progress(job, len(methods), len(pictures)):
                raise LostError
        ranks = mean_ranks({name: MethodResult(values, {}) for name, values in methods.items()})
        metrics = [
            {"name": name, "higher_is_better": METRICS[name].higher_is_better} for name in methods["fused"]
        ]
        finite = {
            name: {metric: v if np.isfinite(v) else None for metric, v in values.items()}
            for name, values in methods.items()
        }
        result = {
            "convention": request["convention"], "metrics": metrics, "methods": finite, "mean_rank": ranks,
        }  # fmt: skip
        self.store.finish(job, result, size_of(self.folders.jobs / job.id))


def thermal_options(job: Job) -> ThermalOptions:
    """Return what a job asks for of thermal cameras' files. Raises InputError."""
    asked = {name: value for name, value in job.request["options"].items() if name in THERMAL}
    overrides = Overrides(*(asked.pop(name, None) for name in ("emissivity", "distance", "reflected")))
    if "isotherm" in asked:
        asked["isotherm"] = tuple(asked["isotherm"])
    return ThermalOptions(**asked, overrides=overrides)


def is_drawn(job: Job) -> bool:
    """Tell whether a fusion's picture is coloured or marked by temperature."""
    return any(name in job.request["options"] for name in ("palette", "annotate", "isotherm"))


def ranges_of(job: Job) -> list[VolumeRange]:
    """Return the values that stand for black and white in each source; None for what the file says."""
    asked = job.request["options"].get("range") or [None] * len(job.request["sources"])
    return [tuple(wanted) if isinstance(wanted, list) else wanted for wanted in asked]


def shown_names(job: Job, given: Given) -> list[str]:
    """Return the client's name of each picture that was fused; a photograph may lie in the other's file."""
    names = names_of(job)
    return names if len(names) == len(given.images) else [*names, f"{names[0]}, its photograph"]


def reduced(given: Given) -> Given:
    """Return sources no larger than a quick preview."""
    images, placed = [small(image) for image in given.images], given.placed
    if placed is not None:
        rows, columns = (
            np.linspace(0, old - 1, new).round().astype(int)
            for old, new in zip(placed.shown.shape, images[0].size, strict=True)
        )
        placed = replace(
            placed, at=placed.at[rows][:, columns], shown=placed.shown[rows][:, columns], images=images
        )
    return Given(images, placed)


def zipped(folder: Path) -> Path:
    """Pack a folder's files into a ZIP beside it, always the same bytes, and remove the folder."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(f"{folder.name}/{file.name}"), file.read_bytes())
    shutil.rmtree(folder)
    return path


def names_of(job: Job) -> list[str]:
    """Return the client's names of a job's sources."""
    return [source["name"] for source in job.request["sources"]]


def shorter(text: str, paths: Sequence[Path], names: Sequence[str]) -> str:
    """Return a text with the client's names of files instead of our paths."""
    for path, name in zip(paths, names, strict=True):
        text = text.replace(str(path), name)
    return text


def small(image: Image) -> Image:
    """Return a picture no larger than a quick preview."""
    scale = QUICK_SIDE / max(image.size)
    if scale >= 1:
        return image
    height, width = (max(MINIMUM_SIDE, round(side * scale)) for side in image.size)
    return resampled(image, (height, width))


def step_picture(luma: Tensor) -> bytes:
    """Return a luminance (H, W) in [-1, 1] as a small PNG."""
    pixels = ((luma.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
    picture = PILImage.fromarray(pixels)
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return _encoded(picture)


def as_png(samples: NDArray[np.uint8]) -> bytes:
    """Return samples (H, W), (H, W, 1) or (H, W, 3) as a PNG that is quickly made."""
    return _encoded(PILImage.fromarray(samples[..., 0] if samples.shape[-1] == 1 else samples))


def _encoded(picture: PILImage.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def as_tensor(image: Image) -> Tensor:
    """Return a picture as metrics take it, (1, C, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(as_bytes(image))).movedim(-1, 0)[None]
