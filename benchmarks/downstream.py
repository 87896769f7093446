"""What fusion is worth to a machine: a person detector as it is, a small classifier, and a synthetic set.

    python benchmarks/downstream.py DATA [--only PART ...] [--output FILE] [--cache FOLDER] [--reports FOLDER]

DATA holds ivf/msrs (with peers/SeAFusion), detection/msrs/labels, detection/m3fd and
classification/flir_crops. Fused pictures and trainings are kept in the cache: what depends on code that has
changed is computed anew, the rest is not. Each part takes its place in results/downstream.json, from which
downstream.md is written anew.
Reports (--reports) show data that may not be handed on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from common import circumstances, measure_parts, script_parser, write_text

from ddfm.downstream import detection, night_drive, segmentation
from ddfm.downstream.boxes import Boxes
from ddfm.downstream.classification import classify
from ddfm.downstream.frames import mirrored_boxes
from ddfm.downstream.inputs import NAMES, FusePairs, Input, find_inputs, pictures, stacked
from ddfm.downstream.layouts import DETECTION, SEGMENTATION, m3fd, msrs
from ddfm.downstream.layouts.flir_crops import TITLE
from ddfm.downstream.pages import (
    INTERVAL,
    classification_page,
    classification_table,
    detection_page,
    detection_table,
    difference_tables,
    segmentation_page,
)
from ddfm.downstream.report import Page, Table, markdown, write
from ddfm.downstream.scenes import DetectionSet, RgbPixels, as_picture
from ddfm.downstream.ssdlite import PersonDetector
from ddfm.formats.atomic import prepare_folder
from ddfm.fusion.pipeline import fuse
from ddfm.likelihoods.tasks import TASKS
from ddfm.pictures.colour import WEIGHTS
from ddfm.pictures.image import Image

SEEDS = 3  # of the synthetic set
CLASSIFIER_SEEDS = 5
SCENES = 320  # that are drawn
Margins = tuple[int, int, int, int]
MARGINS: tuple[Margins, ...] = ((0, 0, 0, 0), (12, 8, 0, 0), (0, 0, 12, 8), (24, 0, 0, 16))
VIEWS = tuple(product((False, True), MARGINS))  # mirrored or not; pixels cut off left, top, right, bottom
PERSONS = "One class, person; the detector was trained on photographs and not retrained."


@dataclass(frozen=True)
class Job:
    """Where things lie."""

    data: Path
    cache: Path
    reports: Path | None

    def report(self, name: str, page: Page) -> list[Table]:
        """Write a page, if reports are wanted; return its tables."""
        if self.reports is not None:
            prepare_folder(self.reports / name)
            write(page, self.reports / name)
        return page.tables


def detections(job: Job) -> list[Table]:
    """Measure the given detector on the labelled pairs of MSRS and M3FD."""
    tables = []
    streets = m3fd.detection(job.data / "detection/m3fd")
    for name, chosen, inputs in (*sets_of_msrs(job), ("m3fd", streets, NAMES)):
        found = detection.pretrained(chosen, find_inputs(inputs), job.cache, progress=tell)
        title = f"{chosen.title}: {chosen.note}"
        page = detection_page(
            title, found, "python benchmarks/downstream.py DATA --only detection", [PERSONS]
        )
        pairs, people = page.facts["Pictures"], page.facts["Objects"]
        tables += [
            replace(table, note=f"{pairs} pairs, {people} persons.") for table in job.report(name, page)
        ]
    return tables


def views(job: Job) -> list[Table]:
    """Show the given detector mirrored and cropped views, too: one look at few persons tells little.

    A person at an edge that is cut off counts whole, for every input alike.
    """
    detector = PersonDetector()
    tables = []
    for _, chosen, names in sets_of_msrs(job):
        scenes = detection.judged_scenes(chosen, None)
        truth = detection.read_people(chosen, scenes)
        shown = {made.name: list(pictures(made, scenes, job.cache)) for made in find_inputs(names)}
        title = f"{chosen.title}, {len(VIEWS)} views"
        people = sum(len(boxes) for boxes in truth)
        note = f"{INTERVAL} ±: standard deviation over the views. {len(scenes)} pairs, {people} persons."
        for look, detect in detector.looks.items():
            found = {name: detection.Detections(seen(detect, made)) for name, made in shown.items()}
            detected = detection.Detected(title, ("person",), scenes, truth, found)
            tables.append(replace(detection_table(look, detected), note=note))
            tell(f"{title}, {look}")
    return tables


def seen(detect: Callable[[RgbPixels], Boxes], shown: Sequence[RgbPixels]) -> list[list[Boxes]]:
    """Return what is found in each view of the pictures, as boxes of the whole pictures."""
    return [[seen_in(detect, picture, *view) for picture in shown] for view in VIEWS]


def seen_in(
    detect: Callable[[RgbPixels], Boxes], picture: RgbPixels, mirrored: bool, margins: Margins
) -> Boxes:
    """Return what is found in a view of a picture, as boxes of the whole picture."""
    left, top, right, bottom = margins
    height, width = picture.shape[:2]
    part = picture[top : height - bottom, left : width - right]
    if mirrored:
        found = mirrored_boxes(detect(np.ascontiguousarray(part[:, ::-1])), part.shape[1])
    else:
        found = detect(np.ascontiguousarray(part))
    return replace(found, xyxy=found.xyxy + np.array([left, top, left, top]))


def labelled_msrs(job: Job) -> DetectionSet:
    """Return the labelled pairs of MSRS."""
    root = job.data / "ivf/msrs"
    return msrs.detection_of(root / "ir", root / "vi", job.data / "detection/msrs/labels")


def sets_of_msrs(job: Job) -> list[tuple[str, DetectionSet, Sequence[str]]]:
    """Return name, set and inputs of MSRS's labelled pairs, and of those with SeAFusion's pictures."""
    labelled = labelled_msrs(job)
    peer = job.data / "ivf/msrs/peers/SeAFusion"
    both = [scene for scene in labelled.splits["test"] if (peer / f"{scene.stem}.png").is_file()]
    title = f"MSRS, the {len(both)} pairs with SeAFusion's"
    with_peer = replace(labelled, title=title, splits={"test": both})
    return [("msrs", labelled, NAMES), ("msrs-seafusion", with_peer, (*NAMES, f"SeAFusion={peer}"))]


def classifications(job: Job) -> list[Table]:
    """Train the classifier on each input with five seeds."""
    root = job.data / "classification/flir_crops"
    found = classify(root, find_inputs(NAMES), range(CLASSIFIER_SEEDS), cached=job.cache, progress=tell)
    page = classification_page(found, "python benchmarks/downstream.py DATA --only classification", [])
    crops, seconds = page.facts["Test crops"], page.facts["All trainings"]
    facts = f"{crops} test crops, {CLASSIFIER_SEEDS} seeds, all trainings {seconds}."
    first, *others = job.report("flir-crops", page)
    return [replace(first, note=f"{facts} {first.note}"), *others]


def parts(job: Job) -> list[Table]:
    """Take out what tells ours from the mean, one thing at a time, and ask classifier and detector."""
    infrared, mean = find_inputs(["infrared", "mean"])
    assert mean.fuse is not None
    inputs = [
        infrared,
        mean,
        Input("mean, contrast doubled", contrasted(mean.fuse, 2.0)),
        Input("ddfm, steps 0", altered()),
        Input("contrast halved", contrasted(altered(), 0.5)),
        Input("the whole picture does not decide", altered(overall=0.0)),
        Input("details of both sources alike", altered(energy_power=0.0, followed=0.0)),
        Input(
            "evidence hardly decides",
            altered(local=0.15, overall=0.25, bright=2.25, absent=0.7, energy_power=0.5),
        ),
    ]
    tables = []
    for labelled in (labelled_msrs(job), m3fd.detection(job.data / "detection/m3fd")):
        found = detection.pretrained(labelled, inputs, job.cache, progress=tell)
        tables += [detection_table(look, detected) for look, detected in found.items()]
    root = job.data / "classification/flir_crops"
    classified = classify(root, inputs, range(SEEDS), cached=job.cache, progress=tell)
    first = classification_table(classified)
    note = f"{SEEDS} seeds. Contrast: of the luminance, about each picture's mean."
    return [
        replace(first, title=f"{TITLE}: accuracy", note=f"{note} {first.note}"),
        *difference_tables(classified, "ddfm, steps 0"),
        *tables,
    ]


def altered(**fields: Any) -> FusePairs:
    """Fuse by the likelihood alone, with other fields of its infrared task."""
    task = replace(TASKS["infrared"], **fields)

    def run(infrared: Sequence[Image], visible: Sequence[Image]) -> list[RgbPixels]:
        result = fuse(stacked(infrared), stacked(visible), task=task, steps=0, noise="off", device="cpu")
        return [as_picture(image) for image in result.images]

    return run


def contrasted(fusion: FusePairs, factor: float) -> FusePairs:
    """Change the contrast of fused luminances about their means; the chroma stays as it is."""

    def run(infrared: Sequence[Image], visible: Sequence[Image]) -> list[RgbPixels]:
        changed = []
        for picture in fusion(infrared, visible):
            luma = picture @ np.array(WEIGHTS)
            moved = (factor - 1) * (luma - luma.mean())
            changed.append((picture + moved[..., None]).round().clip(0, 255).astype(np.uint8))
        return changed

    return run


def drawn_masks(job: Job) -> list[Table]:
    """Train SegFormer from scratch on each input of the drawn set."""
    labelled = SEGMENTATION["night-drive"](drawn(job))
    masks = segmentation.retrained(
        labelled, find_inputs(NAMES), range(SEEDS), cached=job.cache, progress=tell
    )
    command = "python benchmarks/downstream.py DATA --only drawn-masks"
    return job.report("night-drive-masks", segmentation_page("night-drive: masks", masks, command, []))


def drawn_boxes(job: Job) -> list[Table]:
    """Train the small detector from scratch on each input of the drawn set."""
    labelled = DETECTION["night-drive"](drawn(job))
    boxes = detection.retrained(labelled, find_inputs(NAMES), range(SEEDS), cached=job.cache, progress=tell)
    found = {"points, retrained for each input": boxes}
    command = "python benchmarks/downstream.py DATA --only drawn-boxes"
    return job.report("night-drive-boxes", detection_page("night-drive: boxes", found, command, []))


def drawn(job: Job) -> Path:
    """Return the folder of the drawn set, drawn if it is not there."""
    root = job.cache / f"night-drive-{SCENES}"
    if not root.exists():
        night_drive.synthesize(root, SCENES)
    return root


PARTS: dict[str, Callable[[Job], list[Table]]] = {
    "detection": detections,
    "views": views,
    "classification": classifications,
    "parts": parts,
    "drawn-masks": drawn_masks,
    "drawn-boxes": drawn_boxes,
}


def tell(line: str) -> None:
    print(line, flush=True)


def measured(part: Callable[[Job], list[Table]], job: Job) -> dict[str, Any]:
    """Return the tables of a part with the circumstances they were measured in."""
    tables = [asdict(table) for table in part(job)]
    return {**circumstances(), "tables": tables}


def as_markdown(results: dict[str, Any]) -> str:
    lines = ["# What fusion is worth to a machine", "", "Written by benchmarks/downstream.py.", ""]
    for part in PARTS:
        if part in results:
            lines += [f"## {part}", "", results[part]["about"], ""]
            lines += [markdown(Table(**table)) for table in results[part]["tables"]]
    return "\n".join(lines)


def main() -> None:
    parser = script_parser(__doc__, "downstream.json", data=True, parts=tuple(PARTS))
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "ddfm-downstream")
    parser.add_argument("--reports", type=Path, help="folder for the reports")
    arguments = parser.parse_args()
    job = Job(arguments.data, arguments.cache, arguments.reports)
    measure_parts(
        {name: partial(measured, part, job) for name, part in PARTS.items()},
        arguments.output,
        arguments.only,
        report=lambda results: write_text(arguments.output.with_suffix(".md"), as_markdown(results)),
    )


if __name__ == "__main__":
    main()
