import os
from pathlib import Path

import numpy as np
import pytest

from ddfm import cores
from ddfm.cores import GLANCE, LEAST, OLDEST, Load, Reading, free_cores

START = Reading(clock=100.0, own=10.0, idle=50.0, total=400.0, cores=4)


def later(seconds: float, idle: float, own: float) -> Reading:
    """What the clocks say after so many seconds in which so many cores were idle and so many our own."""
    return Reading(
        START.clock + seconds,
        START.own + own * seconds,
        START.idle + idle * seconds,
        START.total + 4 * seconds,
        4,
    )


@pytest.mark.parametrize(
    ("idle", "own", "free"),
    [(4, 0, 4), (0, 0, 0), (3, 1, 4), (0, 2, 2), (1.5, 0.5, 2), (4, 0.5, 4)],
)
def test_cores_are_free_that_are_idle_or_ours(idle: float, own: float, free: float) -> None:
    assert free_cores(START, later(0.5, idle, own)) == pytest.approx(free)


def test_all_cores_are_free_where_the_system_does_not_tell() -> None:
    assert free_cores(START, START._replace(clock=101.0)) == 4


def test_looking_waits_only_after_a_pause() -> None:
    seconds = OLDEST + 1
    readings = [
        START,
        later(GLANCE, 4, 0),
        later(GLANCE + LEAST / 2, 2, 0),
        later(1.0, 0, 1),
        later(1.0 + seconds, 4, 0),
        later(1.1 + seconds, 4, 0),
    ]
    waits: list[float] = []
    load = Load(lambda: readings.pop(0), waits.append)
    assert load.free_cores() == pytest.approx(4)
    assert waits == [GLANCE]
    assert load.free_cores() == pytest.approx(4)  # too soon for another answer
    assert load.free_cores() < 2
    assert waits == [GLANCE]
    assert load.free_cores() == pytest.approx(4)
    assert waits == [GLANCE, GLANCE]


def test_clocks_go_on() -> None:
    before, after = cores.read(), cores.read()
    assert after.clock > before.clock
    assert after.own >= before.own
    assert after.total >= before.total
    assert 1 <= after.cores <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("text", "quota"), [("150000 100000\n", 1.5), ("max 100000\n", np.inf), (None, np.inf)]
)
def test_quota_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, quota: float
) -> None:
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert cores.container_quota() == quota
