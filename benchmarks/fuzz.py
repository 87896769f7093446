"""Damaged files and kills, by the thousand: ``python benchmarks/fuzz.py``.

Every case of a damaged file must be read or refused in one line, and must change nothing around it. A case is
given by its seed alone. After every kill the sources and all finished outputs must be what they were, and the
next run must end with the bytes of an unbroken one and leave no litter. Exits with status 1 if any failed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from common import script_parser, write_result
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from ddfm.benchmark.evaluation import evaluate_folders, write_csv, write_json
from ddfm.formats.atomic import leftovers
from ddfm.fusion.options import Options
from ddfm.jobs.folders import fuse_folders
from ddfm.jobs.manifest import NAME
from ddfm.jobs.volumes import fuse_volumes
from ddfm.training.recipe import PriorRecipe
from ddfm.training.run import train
from ddfm.video import fuse_videos
from tests.conftest import picture
from tests.faults.mutations import kinds, mutated, outcome
from tests.formats.medical import hounsfield, write_nifti, write_series

SLOW = 20.0  # seconds, from which on a case has failed
LARGE = 1500 * 1024  # KiB, likewise
Failures = list[str]


class Job(NamedTuple):
    """A run that is killed: what it reads, what it does, and what it writes into."""

    name: str
    run: Callable[[Path], object]


def digests(folder: Path) -> dict[str, str]:
    """What every file below a folder holds, by its path there; records of folder runs hold times."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(NAME)
    }


def damage(cases: int, first: int, folder: Path) -> tuple[Counter[str], Counter[str], Failures]:
    """Read damaged files; return how many were tried and refused of each kind, and what failed."""
    known = kinds(folder / "making")
    work = folder / "work"
    work.mkdir()
    (work / "witness").write_bytes(b"untouched")
    tried: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    failures: Failures = []
    for seed in range(first, first + cases):
        kind = known[seed % len(known)]
        path = work / kind.name
        path.write_bytes(mutated(kind.whole, np.random.default_rng(seed)))
        before, start = digests(work), time.monotonic()
        tried[kind.name] += 1
        try:
            message = outcome(kind, path)
            refused[kind.name] += message is not None
            fault = "more than a line" if "\n" in (message or "") else ""
        except Exception:  # what this program is looking for
            fault = traceback.format_exc().strip().splitlines()[-1]
        if time.monotonic() - start > SLOW:
            fault = f"took {time.monotonic() - start:.0f} s"
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > LARGE:
            fault = "took more than 1.5 GB"
        if digests(work) != before:
            fault = "changed what lay around it"
        if fault:
            failures.append(f"seed {seed}, {kind.name}: {fault}")
            print(failures[-1], flush=True)
            (folder / f"{seed}-{kind.name}").write_bytes(path.read_bytes())
        path.unlink()
    return tried, refused, failures


def make_sources(folder: Path) -> None:
    """Pictures, volumes, a video and photographs, small ones."""
    for number, name in enumerate(("ir", "vi")):
        (folder / name).mkdir(parents=True)
        for k in range(12):
            Image.fromarray(picture(64, 64, 1, np.uint8, 2 * k + number)).save(folder / name / f"{k}.png")
        write_nifti(folder / f"{name}.nii", hounsfield(64, 64, 12, number))
        write_series(folder / f"series-{name}", hounsfield(12, 32, 32, number))
        with av.open(str(folder / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width = stream.height = 64
            for k in range(40):
                frame = np.dstack([picture(64, 64, 1, np.uint8, number)] * 3) // 2 + np.uint8(k)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
            container.mux(stream.encode(None))


def jobs(sources: Path) -> list[Job]:
    """All runs, each a function of the folder to write."""
    options = Options(steps=0, task="infrared", noise="off", device="cpu")
    medical = options.but(task="medical")
    recipe = PriorRecipe(
        channels=(8, 16), norm_groups=4, crop=16, batch=2, steps=6, warmup_steps=1, bf16=False
    )
    ir, vi = sources / "ir", sources / "vi"
    photographs = sorted(ir.iterdir())

    def report(out: Path) -> None:
        found = evaluate_folders(ir, vi, [ir])
        for k in range(20):
            write_csv(found, out / f"{k}.csv")
            write_json(found, out / f"{k}.json")

    def training(out: Path) -> None:
        train(photographs, out / "run", recipe, resume=True, checkpoint_every=2)

    return [
        Job("folders", lambda out: fuse_folders([ir, vi], out, options, uncertainty=None)),
        Job("NIfTI", lambda out: fuse_volumes([f"{ir}.nii", f"{vi}.nii"], out / "f.nii", medical)),
        Job(
            "DICOM",
            lambda out: fuse_volumes([sources / "series-ir", sources / "series-vi"], out / "f", medical),
        ),
        Job("video", lambda out: fuse_videos(f"{ir}.mp4", f"{vi}.mp4", out / "f.mp4", options)),
        Job("reports", report),
        Job("training", training),
    ]


def in_child(job: Job, out: Path, seconds: float | None) -> int:
    """Run a job in a process of its own and kill it after so many seconds; return its status."""
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        try:
            job.run(out)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def comparable(name: str, found: dict[str, str]) -> dict[str, str]:
    """The outputs whose bytes are the same in every run: logs of training tell seconds."""
    return {path: value for path, value in found.items() if name != "training" or "prior" in path}


def kills(count: int, rng: np.random.Generator, folder: Path) -> tuple[Counter[str], Failures]:
    """Kill every job so many times at random; return how many were killed in time, and what failed."""
    sources = folder / "sources"
    make_sources(sources)
    untouched = digests(sources)
    killed: Counter[str] = Counter()
    failures: Failures = []
    for job in jobs(sources):
        whole, start = folder / f"{job.name}-whole", time.monotonic()
        whole.mkdir()
        if in_child(job, whole, None):
            failures.append(f"{job.name}: the unbroken run failed")
            continue
        seconds, wanted = time.monotonic() - start, comparable(job.name, digests(whole))
        for k in range(count):
            out = folder / f"{job.name}-{k}"
            out.mkdir()
            killed[job.name] += in_child(job, out, float(rng.uniform(0, seconds))) == -signal.SIGKILL
            fault = after_kill(job, out, wanted)
            if digests(sources) != untouched:
                fault = "a source was changed"
            if fault:
                failures.append(f"{job.name}, kill {k}: {fault}")
                print(failures[-1], flush=True)
            else:
                shutil.rmtree(out)
    return killed, failures


def after_kill(job: Job, out: Path, wanted: dict[str, str]) -> str:
    """Look at what a kill left, and go on from there; return what is wrong, if anything is."""
    for path, value in comparable(job.name, digests(out)).items():
        unfinished = any(part.startswith(".ddfm-") for part in Path(path).parts) or ".partial-" in path
        if not unfinished and "prior" not in path and wanted.get(path) != value:
            return f"{path} is neither whole nor marked as unfinished"
    complete = comparable(job.name, digests(out)) == wanted
    if not (complete and job.name == "DICOM") and in_child(
        job, out, None
    ):  # which writes to new folders only
        return "the next run failed"
    if comparable(job.name, digests(out)) != wanted:
        return "the next run ended otherwise"
    litter = [path for place in (out, *out.iterdir()) if place.is_dir() for path in leftovers(place)]
    return f"litter: {litter[0].name}" if litter else ""


def table(rows: Sequence[tuple[str, int, int, int]]) -> list[str]:
    """Lines of Markdown."""
    lines = ["| what | tried | refused or killed | failed |", "| --- | ---: | ---: | ---: |"]
    return lines + [f"| {name} | {tried} | {refused} | {failed} |" for name, tried, refused, failed in rows]


def count_of(name: str, failures: Failures) -> int:
    """How many of the failures are of that name."""
    return sum(f" {name}:" in failure or failure.startswith(f"{name}") for failure in failures)


def main() -> None:
    parser = script_parser(__doc__, "faults.md")
    parser.add_argument("--cases", type=int, default=20_000, help="damaged files")
    parser.add_argument("--kills", type=int, default=34, help="kills of each of six jobs")
    parser.add_argument("--seed", type=int, default=1000, help="of the first case")
    arguments = parser.parse_args()
    for library in ("tifffile", "nibabel", "nibabel.global", "pydicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    last = arguments.seed + arguments.cases - 1
    print(f"seeds {arguments.seed} to {last}; kills with seed {arguments.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="ddfm-fuzz-"))
    start = time.monotonic()
    tried, refused, failures = damage(arguments.cases, arguments.seed, folder)
    killed, broken = kills(arguments.kills, np.random.default_rng(arguments.seed), folder)
    rows = [(name, n, refused[name], count_of(name, failures)) for name, n in sorted(tried.items())]
    rows.append(("all damaged files", tried.total(), refused.total(), len(failures)))
    ends = [(name, arguments.kills, n, count_of(name, broken)) for name, n in killed.items()]
    ends.append(("all kills", arguments.kills * len(killed), killed.total(), len(broken)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    lines = [
        "# Damaged files and kills",
        "",
        f"`python benchmarks/fuzz.py --cases {arguments.cases} --kills {arguments.kills} "
        f"--seed {arguments.seed}`: {time.monotonic() - start:.0f} s, peak memory {peak} MiB.",
        "",
        f"Damaged files, seeds {arguments.seed} to {last}. Each was read, or refused in one line, in less",
        f"than {SLOW:.0f} s and 1.5 GB, and every file around it kept its SHA-256.",
        "",
        *table(rows),
        "",
        "Kills (SIGKILL) at random moments of a run. Sources kept their SHA-256, finished outputs were",
        "whole, and the next run ended with the bytes of an unbroken one and left no litter. Runs that",
        "ended before the kill count as tried only.",
        "",
        *table(ends),
        "",
        "Windows' and macOS' rules for names (case, composed characters, reserved names, dots at the end)",
        "are tried by unit tests alone (tests/formats/test_paths.py); neither system was at hand.",
    ]
    write_result(arguments.output, "\n".join(lines) + "\n")
    print("\n".join(lines))
    if failures or broken:
        print(f"kept in {folder}")
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
