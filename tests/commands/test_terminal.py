"""What a terminal shows of a folder run."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ddfm.commands.terminal import MOST_WORKERS, FolderBars, progress_bars
from ddfm.jobs.numbers import Numbers
from ddfm.jobs.work import Progress


class Terminal:
    """A folder run with a clock that is set by hand, and the lines that it shows."""

    def __init__(self) -> None:
        self.now = 0.0
        self.numbers = Numbers(lambda: self.now)
        self.console = Console(file=io.StringIO(), force_terminal=True, width=120)
        self.bars = progress_bars(self.console)
        self.shown = FolderBars(self.bars)
        self.shown.numbers = self.numbers

    def lines(self) -> list[str]:
        """What is shown after one more look at the numbers."""
        self.shown(Progress("", self.numbers.done, self.numbers.listed))
        with self.console.capture() as captured:
            self.console.print(self.bars.get_renderable())
        return [line.rstrip() for line in captured.get().splitlines()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("NO_COLOR", "1")
    return Terminal()


def test_rate_failures_and_time_left(terminal: Terminal) -> None:
    numbers = terminal.numbers
    numbers.listed = 100
    (line,) = terminal.lines()
    assert "waiting for workers" in line
    numbers.workers, numbers.failed, numbers.kept = 1, 3, 57
    terminal.now = 10.0
    for _ in range(20):
        numbers.count_fused("a/1", 0.5)
    (line,) = terminal.lines()
    assert "2.00/s, 3 failed" in line
    assert "80/100" in line
    assert "0:00" not in line  # more may be listed
    numbers.all_listed = True
    (line,) = terminal.lines()
    assert line.endswith("0:00:10")  # 20 pairs at two a second; what was kept took no time


def test_workers_that_are_gone_are_not_shown(terminal: Terminal) -> None:
    numbers = terminal.numbers
    numbers.workers = 2
    terminal.now = 10.0
    for worker, count in (("a/1", 10), ("b/2", 20)):
        for _ in range(count):
            numbers.count_fused(worker, 0.5)
    overall, one, other = terminal.lines()
    assert "3.00/s" in overall
    assert "a/1  1.00/s" in one
    assert "b/2  2.00/s" in other
    terminal.now = 100.0
    for worker in ("b/2", "c/3"):
        numbers.count_fused(worker, 0.5)
    assert [line.split()[0] for line in terminal.lines()] == ["pictures", "b/2", "c/3"]


def test_of_many_workers_the_slowest_are_shown(terminal: Terminal) -> None:
    numbers = terminal.numbers
    numbers.workers = 30
    terminal.now = 10.0
    for worker in range(30):
        for _ in range(30 - worker):
            numbers.count_fused(f"w/{worker:02}", 0.5)
    names = [line.split()[0] for line in terminal.lines()[1:]]
    assert sorted(names) == [f"w/{worker}" for worker in range(30 - MOST_WORKERS, 30)]
