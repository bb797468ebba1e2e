"""Which limiter bound a stage, by what was seen, or that this does not decide it. Pure.

First where pods waited: by Little's law the time that they spent before a step, summed over pods, is the queue before
it. Then, of what can hold up that step, the first whose own evidence is there, deliberate limits first: a rate
limiter's waits are certain, while busy processors slow down everything else that could be blamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

SHARE: Final = 0.5  # of the waiting that one step must have, and of a thread's time that a wait must take
BUSY: Final = 0.9  # of a processor or of a single worker
QUEUED: Final = 0.5  # requests that waited in a component's own client, on average over the stage
OF_QUEUE: Final = 0.25  # of the pods that waited for the scheduler: those whose binding its client held back


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Of one stage. Times in seconds a pod, means a stage; None: could not be seen."""

    decide_s: float = 0.0  # until an autoscaler wanted the pod
    create_s: float = 0.0  # until the API server had it
    schedule_s: float = 0.0  # until it had a node
    play_s: float = 0.0  # until it was Ready
    controlled: bool = False  # made by controllers, not by this client
    unfinished: int = 0  # pods that did not get Ready
    paced_fraction: float = 0.0  # of the wait until they were created: until this client's own rate let them go
    pace: str = "client QPS"  # what that rate is
    held_fraction: float = 0.0  # waited because the server said it was busy (429)
    refused: int = 0
    apf_fraction: float | None = (
        None  # of the time of all requests: in the API server's queues of priority and fairness
    )
    apf_rejected: float | None = None
    scheduler_throttled: float | None = None  # requests that waited in the scheduler's own client
    controllers_throttled: float | None = None
    schedule_queue: float = 0.0  # pods that waited for a node, on average
    scheduler_busy: float | None = None  # of its one loop
    controllers_busy: float | None = None  # workers of the controllers that make pods
    depth: float = 0.0  # highest length of their queues
    unschedulable: float = 0.0
    etcd_fraction: float | None = None  # of the time of all requests
    cpu_busy: float = 0.0  # of this machine
    cpu_own: float | None = None  # of this machine, by the control plane and the ramp
    played: bool = True


class Bound(NamedTuple):
    """*name*: of the limiter, or "not decided"; *because*: a sentence with the figures."""

    name: str
    step: str
    share: float
    because: str


NOT_DECIDED: Final = "not decided"


def bound(seen: Evidence) -> Bound:
    """What bound the stage."""
    waits = {"decide": seen.decide_s, "create": seen.create_s, "schedule": seen.schedule_s, "play": seen.play_s}
    whole = sum(waits.values())
    step = max(waits, key=lambda name: waits[name])
    share = waits[step] / whole if whole else 0.0
    told = ", ".join(f"{name} {value:.3g} s" for name, value in waits.items() if value)
    where = f"a pod waited on average: {told or 'not at all'}"
    if seen.unfinished and seen.unschedulable:
        why = f"{seen.unfinished} pods did not get Ready, up to {seen.unschedulable:g} were unschedulable"
        return Bound("no room on the nodes", "schedule", share, why)
    if share < SHARE and seen.cpu_busy >= BUSY:  # what slows down every step alike
        name, why = next(_processor(seen))
        return Bound(name, step, share, f"{where}, no step has half of it; {why}")
    if share < SHARE:
        return Bound(NOT_DECIDED, step, share, f"{where}; no step has half of it")
    for name, why in _STEPS[step](seen):
        if why:
            return Bound(name, step, share, f"{where}; {why}")
    return Bound(NOT_DECIDED, step, share, f"{where}; nothing that can hold up the step {step} was seen to do so")


def _create(seen: Evidence) -> Iterator[tuple[str, str]]:
    if seen.controlled:
        yield "client QPS of the controllers", _throttled(seen.controllers_throttled, "controllers")
    else:
        why = f"{seen.paced_fraction:.0%} of the wait to be created was for the client's own rate"
        yield seen.pace, why if seen.paced_fraction >= SHARE else ""
    yield from _fairness(seen)
    yield from _processor(seen)
    yield from _store(seen)
    if seen.controlled:
        busy = seen.controllers_busy
        why = f"workers for deployments and replica sets: {busy or 0:.0%} of one busy, queue up to {seen.depth:g}"
        yield "controller concurrency", why if busy is not None and busy >= BUSY else ""


def _schedule(seen: Evidence) -> Iterator[tuple[str, str]]:
    held = seen.scheduler_throttled or 0.0
    many = held >= OF_QUEUE * seen.schedule_queue
    yield "client QPS of the scheduler", _throttled(held, "scheduler") if many else ""
    yield from _fairness(seen)
    busy = seen.scheduler_busy
    why = f"the scheduler's loop was busy {busy or 0:.0%}"
    yield "scheduler", why if busy is not None and busy >= BUSY else ""
    yield from _processor(seen)
    yield from _store(seen)


def _play(seen: Evidence) -> Iterator[tuple[str, str]]:
    yield from _fairness(seen)
    yield from _processor(seen)
    yield from _store(seen)
    who = "node stand-in (KWOK)" if seen.played else "nodes"
    yield who, f"pods had a node and waited to be Ready, while this machine was busy {seen.cpu_busy:.0%}"


def _decide(seen: Evidence) -> Iterator[tuple[str, str]]:
    del seen
    yield "autoscaler", "its number of pods wanted rose more slowly than pods were made"


_STEPS: Final[dict[str, Callable[[Evidence], Iterator[tuple[str, str]]]]] = {
    "decide": _decide, "create": _create, "schedule": _schedule, "play": _play,
}  # fmt: skip


def _throttled(queued: float | None, who: str) -> str:
    """Requests that a component's own client held back."""
    if queued is None or queued < QUEUED:
        return ""
    return f"on average {queued:.3g} requests waited for the rate limit of the {who}' own client"


def _fairness(seen: Evidence) -> Iterator[tuple[str, str]]:
    name = "API priority and fairness"
    held = f"{seen.refused} requests were answered 429, and the client's threads waited {seen.held_fraction:.0%} for it"
    yield name, held if seen.held_fraction >= SHARE else ""
    queued = seen.apf_fraction or 0.0
    why = f"{queued:.0%} of the time of all calls was in the API server's queues, {seen.apf_rejected or 0:g} rejected"
    yield name, why if queued >= SHARE else ""


def _processor(seen: Evidence) -> Iterator[tuple[str, str]]:
    own = seen.cpu_own
    by = "" if own is None else f", {own:.0%} for the control plane and the ramp"
    name = "this machine's CPU" + (", taken by other programs" if own is not None and own < SHARE else "")
    yield name, f"its processors were busy {seen.cpu_busy:.0%}{by}" if seen.cpu_busy >= BUSY else ""


def _store(seen: Evidence) -> Iterator[tuple[str, str]]:
    share = seen.etcd_fraction
    why = f"requests to it took {share or 0:.0%} of the time of all calls"
    yield "etcd", why if share is not None and share >= SHARE else ""
