"""A fleet of nodes that encode what comes, event by event; the same for the same seed.

Videos stand in one queue, first come, first served; the one in front goes to the node with the fewest jobs. A job is an
amount of work: the seconds that it takes on a node by itself. On a node with k jobs each goes on at `1 / slowdown(k)`,
as measured there. A node that fails loses its jobs, which begin anew at the queue's front, and is back after its
recovery time. Pure.
"""

from __future__ import annotations

import heapq
import random
from array import array
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Slowdown = Sequence[float]  # of a job on a node with 1, 2, … jobs; 1.0 for one


@dataclass(frozen=True)
class Fleet:
    """*slots*: jobs at a time on a node. *mtbf_s*: mean time between failures of one, 0: none. Seconds."""

    nodes: int
    slots: int
    slowdown: Slowdown
    mtbf_s: float = 0.0
    recovery_s: Sequence[float] = ()  # as measured; each failure takes one of them


@dataclass
class Outcome:
    """Of the videos that came after the warm-up: seconds, in the order of their ends."""

    wait_s: array[float] = field(default_factory=lambda: array("d"))
    turnaround_s: array[float] = field(default_factory=lambda: array("d"))
    span_s: float = 0.0
    busy: float = 0.0  # mean share of slots with a job
    redone: int = 0
    failures: int = 0
    left: int = 0  # still there at the end

    @property
    def videos_s(self) -> float:
        return len(self.turnaround_s) / self.span_s if self.span_s else 0.0


@dataclass
class _Job:
    came_s: float
    work_s: float
    left_s: float
    began_s: float = -1.0


class _Node:
    """Jobs by what is left of them; all go on at one pace, so only the least one can be the next to end."""

    __slots__ = ("at_s", "jobs", "sequence", "up")

    def __init__(self) -> None:
        self.jobs: list[tuple[float, int, _Job]] = []  # (progress at which it ends, tie breaker, job), ascending
        self.at_s = 0.0
        self.sequence = 0  # of the event that is valid
        self.up = True


class Simulation:
    """One run. *work_s*: draws a job's work. *come_s*: when videos come, ascending."""

    def __init__(
        self, fleet: Fleet, come_s: Sequence[float], work_s: Callable[[random.Random], float], seed: int
    ) -> None:
        self._fleet, self._come, self._work = fleet, come_s, work_s
        self._chance = random.Random(f"fleet-{seed}")  # noqa: S311 - its own: never that of the arrivals
        self._nodes = [_Node() for _ in range(fleet.nodes)]
        self._progress = [0.0] * fleet.nodes  # work that each of a node's jobs has had since the node's start
        self._free: list[list[int]] = [[] for _ in range(fleet.slots)]  # nodes with that many jobs, as heaps
        self._queue: deque[_Job] = deque()
        self._events: list[tuple[float, int, str, int, int]] = []  # time, tie breaker, what, node, sequence
        self._ties = 0
        self._outcome = Outcome()
        self._running, self._area, self._last_s = 0, 0.0, 0.0

    def run(self, warm_up_s: float = 0.0) -> Outcome:
        """Until the last video has come, and every one that came has ended; unsteady fleets so end, too."""
        fleet, outcome = self._fleet, self._outcome
        self._warm_up_s = warm_up_s
        for node in range(fleet.nodes):
            heapq.heappush(self._free[0], node)
            if fleet.mtbf_s:
                self._at(self._chance.expovariate(1.0 / fleet.mtbf_s), "fail", node)
        come = iter(self._come)
        coming = next(come, None)
        end_s = self._come[-1] if self._come else 0.0
        while coming is not None or self._running or self._queue:
            if self._events and (coming is None or self._events[0][0] <= coming):
                at_s, _, what, node, sequence = heapq.heappop(self._events)
                self._advance(at_s)
                if what == "end" and self._nodes[node].sequence == sequence:
                    self._end(node, at_s)
                elif what == "fail":
                    self._fail(node, at_s)
                elif what == "back":
                    self._back(node, at_s)
            else:
                assert coming is not None
                self._advance(coming)
                work_s = self._work(self._chance)
                self._queue.append(_Job(coming, work_s, work_s))
                self._serve(coming)
                coming = next(come, None)
        outcome.span_s = max(end_s, self._last_s) - warm_up_s
        outcome.busy = self._area / (max(1e-12, self._last_s) * fleet.nodes * fleet.slots)
        return outcome

    def _at(self, at_s: float, what: str, node: int, sequence: int = 0) -> None:
        self._ties += 1
        heapq.heappush(self._events, (at_s, self._ties, what, node, sequence))

    def _advance(self, now_s: float) -> None:
        self._area += self._running * (now_s - self._last_s)
        self._last_s = now_s

    def _catch_up(self, number: int, now_s: float) -> None:
        """The node's jobs have gone on until now."""
        node = self._nodes[number]
        if node.jobs:
            self._progress[number] += (now_s - node.at_s) / self._fleet.slowdown[len(node.jobs) - 1]
        node.at_s = now_s

    def _expect(self, number: int, now_s: float) -> None:
        """When the node's next job ends, if nothing changes before."""
        node = self._nodes[number]
        node.sequence += 1
        if node.jobs:
            left_s = max(0.0, node.jobs[0][0] - self._progress[number]) * self._fleet.slowdown[len(node.jobs) - 1]
            self._at(now_s + left_s, "end", number, node.sequence)

    def _serve(self, now_s: float) -> None:
        while self._queue and (number := self._least()) is not None:
            job, node = self._queue.popleft(), self._nodes[number]
            self._catch_up(number, now_s)
            self._ties += 1
            insort(node.jobs, (self._progress[number] + job.left_s, self._ties, job))
            if job.began_s < 0:
                job.began_s = now_s
            self._running += 1
            self._offer(number)
            self._expect(number, now_s)

    def _offer(self, number: int) -> None:
        """The node may be given a job, by how many it has."""
        node = self._nodes[number]
        if node.up and len(node.jobs) < self._fleet.slots:
            heapq.heappush(self._free[len(node.jobs)], number)

    def _least(self) -> int | None:
        """A node with the fewest jobs and room for one; entries that are not true any more are dropped."""
        for count, heap in enumerate(self._free):
            while heap:
                number = heapq.heappop(heap)
                if self._nodes[number].up and len(self._nodes[number].jobs) == count:
                    return number
        return None

    def _end(self, number: int, now_s: float) -> None:
        node = self._nodes[number]
        self._catch_up(number, now_s)
        _, _, job = node.jobs.pop(0)
        self._running -= 1
        if job.came_s >= self._warm_up_s:
            self._outcome.wait_s.append(job.began_s - job.came_s)
            self._outcome.turnaround_s.append(now_s - job.came_s)
        self._offer(number)
        self._expect(number, now_s)
        self._serve(now_s)

    def _fail(self, number: int, now_s: float) -> None:
        node, fleet = self._nodes[number], self._fleet
        self._catch_up(number, now_s)
        lost = [job for _, _, job in node.jobs]
        self._running -= len(lost)
        self._outcome.failures += 1
        self._outcome.redone += len(lost)
        node.jobs, node.up = [], False
        node.sequence += 1
        for job in sorted(lost, key=lambda one: -one.came_s):
            job.left_s = job.work_s
            self._queue.appendleft(job)
        recovery_s = self._chance.choice(fleet.recovery_s) if fleet.recovery_s else 0.0
        self._at(now_s + recovery_s, "back", number)
        self._serve(now_s)

    def _back(self, number: int, now_s: float) -> None:
        self._nodes[number].up = True
        self._offer(number)
        self._at(now_s + self._chance.expovariate(1.0 / self._fleet.mtbf_s), "fail", number)
        self._serve(now_s)
