"""Have a folder run's work done by a Ray cluster: actors that hold one prior each.

Every worker has one batch in work and one that waits, so that it never waits for the driver. Batches stay in
the driver until then: what is not handed out cannot be lost. Workers read and write themselves. A worker that
is lost is replaced as soon as the cluster has room for another.

A cluster may grow and shrink meanwhile. While all workers have something to do, some more are asked for than
there is room for. They wait without holding anything up, and an autoscaler takes them for a reason to start
nodes. Workers that have had nothing to do for a minute are let go, so that their nodes can be taken away.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from ddfm.errors import InputError, reason_of
from ddfm.fusion.pipeline import Fusion
from ddfm.jobs.engine import AHEAD, GPU_BATCH
from ddfm.jobs.manifest import Outcome
from ddfm.jobs.work import Item, Job, Progress

# A cluster of this machine alone: nobody else can reach it, and nothing but the job goes through its store.
OWN = {"include_dashboard": False, "object_store_memory": 100_000_000, "_node_ip_address": "127.0.0.1"}
LOOK = 5.0  # seconds between looks at whether the cluster has grown
IDLE = 60.0  # seconds without work after which a worker is let go
MOST_SPARE = 32  # workers that are asked for beyond the room there is
STARTS = 3  # workers in a row that may end before they are ready
NODE_ENDED = ("its node", "actor's node")  # in what Ray says of an actor that ended with its node
CONNECTING = "RAY_AUTH_MODE, RAY_AUTH_TOKEN and the address have to be those of the cluster"


@dataclass
class Hand:
    """Hold the driver's side of one worker.

    Attributes:
        actor: Ray's handle.
        ready: resolves to its name and its node's id once it can work.
        name: where it works; empty until it is ready.
        node: id of its node.
        batches: what it has been given, in that order, by the reference of the answer.
        busy: when it last had something to do, by the clock of `time.monotonic`.
    """

    actor: Any
    ready: Any
    name: str = ""
    node: str = ""
    batches: dict[Any, Sequence[Item]] = field(default_factory=dict)
    busy: float = 0.0


class RayEngine:
    """Work on a Ray cluster, or, without an address, on all devices of this machine.

    Attributes:
        batch: groups that are handed over at once.
        workers: how many there shall be; None for as many as the cluster has room for, now and later, and
            some that wait for more room.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, cores: int = 1) -> None:
        """Take down what is wanted; nothing is started yet.

        Args:
            address: of the cluster (HOST:PORT, or "auto" for the one that this machine belongs to).
            workers: more than there is room for wait until the cluster grows, which tells it to.
            cores: of each worker, for the clusters' processors. Where there are GPUs, each has one instead.

        Raises:
            InputError: Ray is not installed, or a number is not positive.
        """
        if cores < 1 or (workers is not None and workers < 1):
            raise InputError("--workers, --worker-cores: one or more are needed")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray warns otherwise
        if address is None:  # else Ray takes 127.0.0.1 for a mistake, and listens on all interfaces
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        if address is None and "RAY_AUTH_MODE" not in os.environ:  # a cluster of this run alone
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        try:
            import ray
        except ImportError as missing:
            raise InputError("--engine ray: Ray is missing: pip install 'ddfm[cluster]'") from missing
        self._ray, self._address, self._cores = ray, address, cores
        self.workers, self.batch = workers, 1
        self._hands: list[Hand] = []
        self._lost: list[Outcome] = []
        self._failed_starts, self._looked = 0, 0.0

    def start(
        self, job: Job, fusion: Fusion, batch: int | None, progress: Callable[[Progress], None]
    ) -> None:
        """Connect to the cluster, and have as many workers begin as it has room for."""
        ray = self._ray
        try:
            own = OWN if self._address is None else {}
            ray.init(self._address, log_to_driver=False, logging_level="error", **own)
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            where = self._address or "this machine"
            raise InputError(f"Ray at {where}: no connection ({first_line(error)}); {CONNECTING}") from error
        gpus = ray.cluster_resources().get("GPU", 0) > 0 and str(job.options.device) != "cpu"
        self._needs = {"GPU": 1.0} if gpus else {"CPU": float(self._cores)}
        self.batch = batch or (GPU_BATCH if gpus else 1)
        options = {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": self._cores}
        self._make = ray.remote(**options, max_restarts=0)(Actor)
        self._job = ray.put(elsewhere(job))
        self._look_around(more=True)

    def room(self) -> bool:
        """Tell whether a worker that is ready has less than it may have."""
        return any(hand.name and len(hand.batches) < AHEAD for hand in self._hands)

    def submit(self, items: Sequence[Item]) -> None:
        """Hand a batch to the worker that has least to do."""
        hand = min((hand for hand in self._hands if hand.name), key=lambda hand: len(hand.batches))
        hand.batches[hand.actor.work.remote(list(items))] = items
        hand.busy = time.monotonic()

    def ready(self) -> int:
        """Return how many workers can work."""
        return sum(bool(hand.name) for hand in self._hands)

    def busy(self) -> bool:
        """Tell whether anything has not come back."""
        return bool(self._lost) or any(hand.batches for hand in self._hands)

    def wait(self, seconds: float, more: bool) -> list[Outcome]:
        """Return what was done; what lost workers had is among it, as failed."""
        self._look_around(more or not self.ready())
        outcomes, self._lost = self._lost, []
        by_reference = {hand.ready: hand for hand in self._hands if not hand.name}
        by_reference |= {reference: hand for hand in self._hands for reference in hand.batches}
        if not by_reference:
            time.sleep(seconds)
            return outcomes
        patience = 0 if outcomes else seconds
        done, _ = self._ray.wait(list(by_reference), num_returns=1, timeout=patience)
        if done:  # whatever else is there
            done, _ = self._ray.wait(list(by_reference), num_returns=len(by_reference), timeout=0)
        for reference in done:
            hand = by_reference[reference]
            if hand in self._hands:
                outcomes += self._received(hand, reference)
        return outcomes

    def stop(self) -> None:
        """End the workers and leave the cluster."""
        for hand in self._hands:
            self._ray.kill(hand.actor)
        self._hands = []
        self._ray.shutdown()

    def _received(self, hand: Hand, reference: Any) -> list[Outcome]:
        """Return the outcomes that a worker sent, or that its end means."""
        ray = self._ray
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None  # a fault of the program, or a prior that will not do
        except ray.exceptions.RayError as error:
            return self._bury(hand, error)
        hand.busy = time.monotonic()
        if reference is hand.ready:
            hand.name, hand.node = answer
            self._failed_starts = 0
            return []
        del hand.batches[reference]
        outcomes: list[Outcome] = answer
        return outcomes

    def _bury(self, hand: Hand, error: BaseException) -> list[Outcome]:
        """Let go of a worker that has ended; the batch that it was at may have ended it, or its node."""
        self._hands.remove(hand)
        self._ray.kill(hand.actor)  # if it is only out of reach, it must not go on
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        said = any(words in str(error) for words in NODE_ENDED)
        node_ended = said or bool(hand.node and hand.node not in alive)
        why = first_line(error)
        if not hand.name and not node_ended:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                raise InputError(f"Ray: {STARTS} workers ended before they were ready ({why})")
        outcomes = []
        for number, items in enumerate(hand.batches.values()):
            to_blame = number == 0 and not node_ended
            failure = f"{'ended' if to_blame else 'lost with'} the worker on {hand.name} ({why})"
            outcomes += [
                Outcome(item.group, failure=failure, crashed=to_blame, lost=not to_blame, worker=hand.name)
                for item in items
            ]
        return outcomes

    def _look_around(self, more: bool) -> None:
        """Replace lost workers and ask for others while there is work for more; else let go of idle ones."""
        now = time.monotonic()
        if self._looked and now - self._looked < LOOK and self._hands:
            return
        self._looked = now
        if not more:
            self._let_go(now)
            return
        for _ in range(self._wanted() - len(self._hands)):
            actor = self._make.remote(self._job)
            self._hands.append(Hand(actor, actor.ready.remote()))

    def _wanted(self) -> int:
        """Return how many workers there should be while there is work for all."""
        if self.workers is not None:
            return self.workers
        total = self._ray.cluster_resources()
        room = int(min(total.get(kind, 0.0) / count for kind, count in self._needs.items()))
        if self._address is None:  # this machine does not grow
            return room
        # An autoscaler starts nodes for workers that wait: as many as there are, as its own rules allow.
        return room + min(max(self.ready(), 1), MOST_SPARE)

    def _let_go(self, now: float) -> None:
        """End workers that have had nothing to do for long, all but one, and those that are not ready yet."""
        ready = [hand for hand in self._hands if hand.name]
        idle = [hand for hand in ready if not hand.batches and now - hand.busy > IDLE]
        if not idle:
            return
        leaving = idle[len(idle) == len(ready) :] + [hand for hand in self._hands if not hand.name]
        for hand in leaving:
            self._hands.remove(hand)
            self._ray.kill(hand.actor)


class Actor:
    """Do the work in a process of the cluster."""

    def __init__(self, job: Job) -> None:
        import ray

        from ddfm.jobs.work import Worker
        from ddfm.threads import use_threads

        context = ray.get_runtime_context()
        self.node = context.get_node_id()
        self.name = f"{self.node[:6]}/{os.getpid()}"
        self.worker = Worker(job, self.name)
        if self.worker.on_cpu:
            # As in a folder run of one process, so that the bytes are the same.
            cores = int(context.get_assigned_resources().get("CPU", 1))
            self.worker.threads = cores
            use_threads(1)
        self.worker.fusion.check_prior()

    def ready(self) -> tuple[str, str]:
        """Return the worker's name and its node's id."""
        return self.name, self.node

    def work(self, items: Sequence[Item]) -> list[Outcome]:
        """Work on a batch."""
        return self.worker(items, Event())


def elsewhere(job: Job) -> Job:
    """Return a job that means the same in another folder of another machine: with whole paths."""
    from ddfm.places import place_of

    def whole(place: Any) -> Any:
        return place if place is None else place_of(place.whole_name)

    targets = replace(
        job.targets,
        fused=whole(job.targets.fused),
        std=whole(job.targets.std),
        report=whole(job.targets.report),
        source_map=whole(job.targets.source_map),
        temperatures=whole(job.targets.temperatures),
    )
    prior = job.prior
    if isinstance(prior, str | os.PathLike) and Path(prior).exists():
        prior = Path(prior).resolve()
    return replace(job, sources=tuple(map(whole, job.sources)), targets=targets, prior=prior)


def first_line(error: BaseException) -> str:
    """Return the first line of what Ray says, which at times is a page."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else reason_of(error)
