"""What is sent to workers in other folders of other machines."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path

from ddfm.cluster.ray_engine import elsewhere
from ddfm.fusion.options import Options
from ddfm.fusion.task import Choice
from ddfm.jobs.work import Job, Targets
from ddfm.places.local import LocalFolder
from ddfm.thermal.options import ThermalOptions


def test_a_job_means_the_same_in_another_folder() -> None:
    targets = Targets(*(LocalFolder(Path(field.name)) for field in fields(Targets)))
    job = Job(
        sources=(LocalFolder(Path("in")),),
        targets=targets,
        ranges=(None, None),
        options=Options(steps=0),
        prior="natural",
        choice=Choice("infrared", ""),
        thermal=ThermalOptions(palette="iron", isotherm=(20, 40)),
    )
    there = pickle.loads(pickle.dumps(elsewhere(job)))
    assert [place.name for place in there.sources] == [str(Path("in").absolute())]
    names = [place.name for place in there.targets.named]
    assert names == [str(Path(field.name).absolute()) for field in fields(Targets)]
    assert there.thermal == job.thermal
