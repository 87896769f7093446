"""What the report says of detections, masks and classes: the tables, curves and pictures of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ddfm.downstream.average_precision import nan_mean
from ddfm.downstream.bootstrap import Interval, mean_and_std
from ddfm.downstream.classification import SCORES, Classified
from ddfm.downstream.confusion import accuracies, class_iou
from ddfm.downstream.detection import Detected
from ddfm.downstream.drawings import boxes_drawn, crops_drawn, mask_drawn
from ddfm.downstream.inputs import OURS
from ddfm.downstream.layouts.flir_crops import CLASSES, TIMES, TITLE
from ddfm.downstream.report import DASH, Chart, Drawing, Page, Point, Table, number
from ddfm.downstream.scenes import read_mask
from ddfm.downstream.segmentation import Segmented

CROPS = 4  # of each class, by day and by night, shown in the report: a row
INTERVAL = "In brackets: 95 % bootstrap interval over pictures."
SPREAD = "±: standard deviation over seeds."
Values = dict[str, Any]


def detection_page(title: str, parts: Mapping[str, Detected], command: str, limits: Sequence[str]) -> Page:
    """Return the page about detections; ``parts`` are ways to look at the same pictures, by their names."""
    one = next(iter(parts.values()))
    objects = sum(len(boxes) for boxes in one.truth)
    facts = {"Set": one.title, "Pictures": str(len(one.scenes)), "Objects": str(objects)}
    tables, charts = [], []
    drawings: dict[str, list[Drawing]] = {}
    for name, detected in parts.items():
        tables += [detection_table(name, detected), *class_tables(name, detected)]
        charts += [_precision_chart(name, detected), *_loss_charts(_detection_losses(detected))]
        drawings |= _box_drawings(name, detected)
    notes = [one.note] if one.note else []
    return Page(
        title,
        facts,
        tables,
        charts,
        drawings,
        [*notes, *limits],
        command,
        {name: detection_values(detected) for name, detected in parts.items()},
    )


def detection_table(name: str, detected: Detected) -> Table:
    """Return average precision and recall of each input, and its distance from ours."""
    rows = []
    for made in detected.inputs:
        runs = detected.precisions(made)
        fifty, std = mean_and_std([run.mean_50 for run in runs])
        all_, _ = mean_and_std([run.mean_50_95 for run in runs])
        recall, _ = mean_and_std([nan_mean(run.recall_50) for run in runs])
        against = (
            DASH
            if made == OURS or OURS not in detected.inputs
            else _signed(detected.difference_50(made, OURS))
        )
        shown = f"{number(fifty)} {_bracket(detected.interval_50(made))}"
        plus = f" ± {std:.3f}" if len(runs) > 1 else ""
        rows.append([made, shown + plus, number(all_), number(recall), against])
    columns = ["input", "AP at .5", "AP at .5:.95", "recall at .5", f"AP at .5 against {OURS}"]
    return Table(f"{detected.title}: {name}", columns, rows, f"{INTERVAL} {SPREAD}")


def class_tables(name: str, detected: Detected) -> list[Table]:
    """Return the table of AP at .5 of each class, if there are several."""
    if len(detected.classes) == 1:
        return []
    rows = []
    for made in detected.inputs:
        runs = np.array([run.at_50 for run in detected.precisions(made)])
        rows.append([made, *(number(float(value)) for value in runs.mean(0))])
    return [Table(f"{detected.title}: {name}, AP at .5 by class", ["input", *detected.classes], rows)]


def detection_values(detected: Detected) -> Values:
    """Return the numbers about detections, ready for JSON."""
    values = _values(detected)
    values["objects"] = sum(len(boxes) for boxes in detected.truth)
    for made in detected.inputs:
        runs = detected.precisions(made)
        values["inputs"][made] = {
            "AP50": [run.mean_50 for run in runs],
            "AP50_95": [run.mean_50_95 for run in runs],
            "recall50": [nan_mean(run.recall_50) for run in runs],
            "AP50_by_class": [dict(zip(detected.classes, run.at_50.tolist(), strict=True)) for run in runs],
            "AP50_interval": vars(detected.interval_50(made)),
        }
    return values


def _values(found: Detected | Segmented) -> Values:
    return {"set": found.title, "pictures": len(found.scenes), "note": found.note, "inputs": {}}


def segmentation_page(title: str, segmented: Segmented, command: str, limits: Sequence[str]) -> Page:
    """Return the page about masks."""
    facts = {
        "Set": segmented.title,
        "Pictures": str(len(segmented.scenes)),
        "Classes": str(len(segmented.classes)),
    }
    tables = [segmentation_table(segmented), iou_table(segmented)]
    losses = {name: masks.losses for name, masks in segmented.inputs.items()}
    notes = [segmented.note] if segmented.note else []
    drawings = _mask_drawings(segmented)
    values = segmentation_values(segmented)
    return Page(title, facts, tables, _loss_charts(losses), drawings, [*notes, *limits], command, values)


def segmentation_table(segmented: Segmented) -> Table:
    """Return the mean IoU of each input by both conventions, and at each time of day."""
    rows = []
    for name in segmented.inputs:
        cells = []
        for convention in ("with_background", "without_background"):
            mean, std = mean_and_std([run[convention] for run in segmented.mean_ious(name)])
            bracket = _bracket(segmented.interval(name, convention))
            cells.append(f"{number(mean)} {bracket}" + (f" ± {std:.3f}" if _several(segmented, name) else ""))
        for time in segmented.conditions:
            values = [run["with_background"] for run in segmented.mean_ious(name, time)]
            cells.append(number(mean_and_std(values)[0]))
        rows.append([name, *cells])
    columns = ["input", "mIoU, background counted", "mIoU, background left out", *segmented.conditions]
    note = f"{INTERVAL} {SPREAD} Times of day: background counted. Classes that occur nowhere are left out."
    return Table(f"{segmented.title}: mean IoU", columns, rows, note)


def iou_table(segmented: Segmented) -> Table:
    """Return the IoU of each class, mean over runs."""
    rows = []
    for name in segmented.inputs:
        shares = np.array([class_iou(matrix) for matrix in segmented.matrices(name)])
        rows.append([name, *(number(float(value)) for value in shares.mean(0))])
    return Table(f"{segmented.title}: IoU by class", ["input", *segmented.classes], rows)


def segmentation_values(segmented: Segmented) -> Values:
    """Return the numbers about masks, ready for JSON."""
    values = _values(segmented)
    for name in segmented.inputs:
        values["inputs"][name] = {
            "mIoU": segmented.mean_ious(name),
            "IoU_by_class": [
                dict(zip(segmented.classes, class_iou(matrix).tolist(), strict=True))
                for matrix in segmented.matrices(name)
            ],
            **{time: segmented.mean_ious(name, time) for time in segmented.conditions},
        }
    return values


def classification_page(classified: Classified, command: str, limits: Sequence[str]) -> Page:
    """Return the page about classes of crops."""
    seeds = len(next(iter(classified.runs.values())))
    seconds = sum(run.seconds for runs in classified.runs.values() for run in runs)
    facts = {
        "Set": TITLE,
        "Test crops": str(len(classified.test.names)),
        "Seeds": str(seeds),
        "All trainings": f"{seconds:.0f} s of computing",
    }
    losses = {name: [run.losses for run in runs] for name, runs in classified.runs.items()}
    return Page(
        f"{TITLE}: what a small network makes of each input",
        facts,
        [classification_table(classified), *difference_tables(classified), *crossed_tables(classified)],
        _loss_charts(losses),
        _crop_drawings(classified),
        list(limits),
        command,
        classification_values(classified),
    )


def classification_table(classified: Classified) -> Table:
    """Return accuracy, balanced and worst class's accuracy of each input, by day and by night."""
    rows = []
    for name, runs in classified.runs.items():
        cells = []
        for night in (False, True):
            for score, values in classified.scores(name, night).items():
                mean, std = mean_and_std(values)
                spread = f" ± {std:.3f}" if len(runs) > 1 else ""
                bracket = _bracket(classified.balanced_interval(name, night)) if score == "balanced" else ""
                cells.append(f"{number(mean)}{spread} {bracket}".rstrip())
        rows.append([name, *cells])
    columns = ["input", *(f"{score}, {time}" for time in TIMES for score in SCORES)]
    note = f"{SPREAD} {INTERVAL} Balanced: mean of the classes' accuracies; worst: the lowest of them."
    return Table("Accuracy by day and by night", columns, rows, note)


def difference_tables(classified: Classified, reference: str = OURS) -> list[Table]:
    """Return how far balanced accuracies are from those of one input, if it is among several."""
    others = [name for name in classified.runs if name != reference]
    if reference not in classified.runs or not others:
        return []
    rows = [
        [name, *(_signed(classified.balanced_difference(name, reference, time == "night")) for time in TIMES)]
        for name in others
    ]
    return [Table(f"Balanced accuracy against {reference}", ["input", *TIMES], rows, f"Paired. {INTERVAL}")]


def crossed_tables(classified: Classified) -> list[Table]:
    """Return balanced accuracy, mean of day and night, of each training on each input, if known."""
    if any(classified.runs.keys() - run.predictions for runs in classified.runs.values() for run in runs):
        return []  # classes as given
    rows = []
    for trained, runs in classified.runs.items():
        cells = []
        for shown in classified.runs:
            found = [
                accuracies(classified.matrix(trained, run, classified.test.night == night, shown))["balanced"]
                for run in range(len(runs))
                for night in (False, True)
            ]
            cells.append(number(float(np.mean(found))))
        rows.append([trained, *cells])
    columns = ["trained on", *(f"shown {name}" for name in classified.runs)]
    title = "Trained on one input, shown another: balanced accuracy, mean of day and night"
    return [Table(title, columns, rows)]


def classification_values(classified: Classified) -> Values:
    """Return the numbers about classes, ready for JSON."""
    seconds = sum(run.seconds for runs in classified.runs.values() for run in runs)
    inputs = {
        name: {
            time: {
                **classified.scores(name, time == "night"),
                "balanced_interval": vars(classified.balanced_interval(name, time == "night")),
            }
            for time in TIMES
        }
        for name in classified.runs
    }
    return {
        "set": TITLE,
        "test_crops": len(classified.test.names),
        "training_seconds": seconds,
        "inputs": inputs,
    }


def _precision_chart(name: str, detected: Detected) -> Chart:
    curves = {}
    for made in detected.inputs:
        values = np.nanmean(
            [np.where(m.curves() < 0, np.nan, m.curves()).mean(1) for m in detected.matches[made]], 0
        )
        curves[made] = [Point(step / 100, float(value)) for step, value in enumerate(values)]
    return Chart(f"{name}: precision over recall, overlap .5", "recall", "precision", curves)


def _detection_losses(detected: Detected) -> dict[str, list[list[float]]]:
    return {name: found.losses for name, found in detected.inputs.items()}


def _loss_charts(losses: Mapping[str, Sequence[Sequence[float]]]) -> list[Chart]:
    """Return the chart of training losses, mean over seeds and over 20 steps; none if nothing was trained."""
    curves = {}
    for name, runs in losses.items():
        if runs and runs[0]:
            mean = np.mean(runs, 0)
            smooth = [float(mean[max(0, n - 19) : n + 1].mean()) for n in range(len(mean))]
            curves[name] = [Point(step + 1, value) for step, value in enumerate(smooth)]
    return [Chart("training loss, mean over seeds", "step", "loss", curves)] if curves else []


def _box_drawings(look: str, detected: Detected) -> dict[str, list[Drawing]]:
    """Return the pictures of each example, one an input."""
    drawings: dict[str, list[Drawing]] = {}
    for name, found in detected.inputs.items():
        for n, picture in enumerate(found.examples):
            uri = boxes_drawn(picture, detected.truth[n], found.runs[0][n])
            drawings.setdefault(f"{detected.scenes[n].stem}, {look}", []).append(Drawing(name, uri))
    return drawings


def _mask_drawings(segmented: Segmented) -> dict[str, list[Drawing]]:
    """Return the pictures of each example, one an input."""
    drawings: dict[str, list[Drawing]] = {}
    classes = len(segmented.classes)
    for name, masks in segmented.inputs.items():
        for n, (picture, mask) in enumerate(masks.examples):
            truth = read_mask(segmented.scenes[n].labels, classes)
            uri = mask_drawn(picture, truth, mask)
            drawings.setdefault(segmented.scenes[n].stem, []).append(Drawing(name, uri))
    return drawings


def _crop_drawings(classified: Classified) -> dict[str, list[Drawing]]:
    """Return sheets of the same crops for each input, with what its first seed made of them."""
    test, generator = classified.test, np.random.default_rng(0)
    drawings: dict[str, list[Drawing]] = {}
    for time in TIMES:
        at_time = test.night == (time == "night")
        rows = [np.flatnonzero(at_time & (test.classes == kind)) for kind in range(len(CLASSES))]
        count = min(CROPS, *map(len, rows))
        chosen = np.concatenate([generator.permutation(numbers)[:count] for numbers in rows])
        sheets = []
        for name, runs in classified.runs.items():
            hits = runs[0].predictions[name][chosen] == test.classes[chosen]
            sheets.append(Drawing(name, crops_drawn(classified.shown[name][chosen], hits.tolist(), count)))
        drawings[f"{time.capitalize()}, drawn by lot: {', '.join(CLASSES)}"] = sheets
    return drawings


def _several(segmented: Segmented, name: str) -> bool:
    return len(segmented.inputs[name].matrices) > 1


def _bracket(found: Interval) -> str:
    return f"[{number(found.low)}, {number(found.high)}]"


def _signed(found: Interval) -> str:
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
