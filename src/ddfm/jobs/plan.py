"""Decide what is to be done with each group, by the record and by what lies in the output folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from ddfm.jobs.listing import Found
from ddfm.jobs.manifest import BEGUN, DONE, FAILED, QUARANTINED, WAITING, Line, Manifest, Outcome
from ddfm.jobs.matching import OUTPUT_SUFFIXES, Group, is_output
from ddfm.jobs.numbers import Numbers
from ddfm.jobs.work import Item, Job, digest, reading

ATTEMPTS = 3  # of a group whose failures may pass
CRASHES = 2  # workers that a group may end
PAUSES = (0.2, 2.0)  # seconds before the second and the third attempt, at least
LOOKS = 500  # groups that are looked at before the workers are asked again


class Plan:
    """Give out the groups that need work, and put down what became of them.

    Attributes:
        in_work: lines of the groups that were given out and have not come back, by stem.
    """

    def __init__(
        self,
        found: Iterator[Found],
        manifest: Manifest,
        job: Job,
        options: str,
        numbers: Numbers,
        overwrite: bool,
    ) -> None:
        self.found, self.manifest, self.job = found, manifest, job
        self.options, self.numbers, self.overwrite = options, numbers, overwrite
        self.in_work: dict[str, Line] = {}

    def next(self, most: int) -> list[Item]:
        """Return so many groups at most that are to be worked on, and write down that they have begun.

        None at all may only mean that none is due now; see `over`.
        """
        changed, begun = list[tuple[Line, bool]](), list[tuple[Line, Item]]()
        for found in islice(self.found, LOOKS):
            known = self.manifest.line(found.group.stem)
            line, item = self.looked_at(found, known)
            if item is not None:
                begun.append((line, item))
            elif line != known:
                changed.append((line, False))
            if len(begun) == most:
                break
        else:
            if self.numbers.all_listed:
                begun += self.due(most - len(begun), bool(begun))
        begun, written = self.without_written(begun)
        self.manifest.begin(changed + written + [(line, True) for line, _ in begun])
        self.in_work |= {line.group.stem: replace(line, attempts=line.attempts + 1) for line, _ in begun}
        return [item for _, item in begun]

    def over(self) -> bool:
        """Tell whether nothing is left, once nothing is in work."""
        return self.numbers.all_listed and not self.manifest.any_waiting()

    def looked_at(self, found: Found, line: Line | None) -> tuple[Line, Item | None]:
        """Return the line that a group gets, and the group if it needs work."""
        group, stamps = found
        before = self.stamp(group)
        there = bool(before.strip("; ")) and self.is_there(group)  # each look is a request to some places
        same = line is not None and (line.options, line.stamps) == (self.options, stamps)
        fresh = Line(group, stamps, "", self.options, BEGUN, before, 0, 0, 0, None)
        if self.overwrite:
            return fresh, Item(group)
        if line is None:
            if not there:
                return fresh, Item(group)
            self.numbers.kept += 1  # of a run before there were records
            return replace(fresh, state=DONE), None
        if line.state == DONE and there and line.options == self.options:
            if same:
                self.numbers.kept += 1
                return line, None
            return fresh, Item(group, known=line.inputs)  # perhaps only the times have changed
        if line.state == QUARANTINED and same:
            self.numbers.failed += 1
            return replace(line, run=self.manifest.run), None
        if line.state in (BEGUN, WAITING) and same:
            crashed = line.state == BEGUN or line.crashes > 0
            return replace(line, state=BEGUN), Item(group, alone=crashed)
        return fresh, Item(group)

    def due(self, most: int, others: bool) -> list[tuple[Line, Item]]:
        """Return groups of this run that are to be tried again.

        One that was in work when a worker ended gets a batch of its own. So it is known whether it is to
        blame.

        Args:
            others: whether groups are in the batch already.
        """
        lines = self.manifest.waiting(most)
        quiet = [line for line in lines if not line.crashes]
        chosen = quiet if quiet or others else lines[:1]
        self.numbers.retried += len(chosen)
        return [(line, Item(line.group, alone=line.crashes > 0)) for line in chosen]

    def without_written(
        self, begun: list[tuple[Line, Item]]
    ) -> tuple[list[tuple[Line, Item]], list[tuple[Line, bool]]]:
        """Part the groups that need work from those whose output a lost worker had written already."""
        left, written = [], []
        for line, item in begun:
            if line.attempts and self.is_there(line.group) and self.stamp(line.group) != line.before:
                self.numbers.kept += 1
                written.append((replace(line, state=DONE, inputs=self.inputs(line.group), error=None), False))
            else:
                left.append((replace(line, state=BEGUN), item))
        return left, written

    def put_down(self, outcomes: Sequence[Outcome]) -> None:
        """Write down what became of groups, and count it."""
        ends = []
        for outcome in outcomes:
            line = self.in_work.pop(outcome.group.stem)
            state, pause = fate(outcome, line)
            ends.append((outcome, state, pause))
            self.numbers.lost += outcome.crashed or outcome.lost
            if state in (FAILED, QUARANTINED):
                self.numbers.failed += 1
            elif state == DONE and outcome.settings is None:
                self.numbers.kept += 1
            elif state == DONE:
                self.numbers.count_fused(outcome.worker, outcome.seconds)
        self.manifest.finish(ends)

    def is_there(self, group: Group) -> bool:
        """Tell whether the group's output lies in its place, as far as its first bytes say."""
        return any(is_output(self.job.targets.fused.head(name)) for name in names(group))

    def stamp(self, group: Group) -> str:
        """Return what changes when an output of the group is written."""
        return "; ".join(self.job.targets.fused.stamp(name) for name in names(group))

    def inputs(self, group: Group) -> str:
        """Return the SHA-256 of the sources' contents."""
        with reading(self.job.sources, group) as paths:
            return digest(paths)


def names(group: Group) -> list[str]:
    """Return the names that a group's output may have."""
    return [f"{group.stem}{suffix}" for suffix in OUTPUT_SUFFIXES]


def fate(outcome: Outcome, line: Line) -> tuple[str, float]:
    """Return the state that a group gets, and the seconds until it is tried again."""
    if outcome.failure is None:
        return DONE, 0.0
    if outcome.lost:
        return WAITING, 0.0
    if outcome.crashed:
        return (QUARANTINED if line.crashes + 1 >= CRASHES else WAITING), 0.0
    if not outcome.passing:
        return QUARANTINED, 0.0
    if line.attempts < ATTEMPTS:
        return WAITING, PAUSES[line.attempts - 1]
    return FAILED, 0.0
