"""An open-loop probe against a service whose true ups and downs are known: the model of the recovery properties.

The service, while up, answers within `latency_max_ns`, which stays below the healthy bound (two intervals at least).
While down it refuses, holds what arrives until it is up again (thaw), or loses it: what is lost ends in the timeout, or
completes at a retry that finds the service up, as TCP's back-off does.
"""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass, field

from hypothesis import strategies as st

from protos.recovery import Attempts, Code

MS = 1_000_000
REFUSED, THAW, LOST, RETRIED = "refused", "thaw", "lost", "retried"


@dataclass(frozen=True)
class Down:
    """The service was down in [start_ns, end_ns)."""

    start_ns: int
    end_ns: int
    mode: str


@dataclass
class World:
    """Ground truth and the probe's settings."""

    downs: list[Down]
    injected_ns: int
    interval_ns: int
    timeout_ns: int
    latency_max_ns: int
    lag_max_ns: int
    in_flight_max: int
    error_fraction: float
    dropped_fraction: float
    end_ns: int
    seed: int
    stalls: list[tuple[int, int]] = field(default_factory=list)  # the probe's own node stood still
    hits: dict[int, tuple[int, Down]] = field(default_factory=dict)  # index of a failure: bad instant and its outage
    blind: list[int] = field(default_factory=list)  # due times of attempts without data

    def probe(self) -> Attempts:
        """Simulates the probe; fills *hits* and *blind*."""
        rng = random.Random(self.seed)
        rows: list[tuple[int, int, int, int]] = []
        started_ns, flying, skip = 0, [], 0
        for due_ns in range(rng.randrange(self.interval_ns), self.end_ns, self.interval_ns):
            started_ns = self._awake(max(started_ns, due_ns + rng.randint(0, self.lag_max_ns)))
            flying = [done_ns for done_ns in flying if done_ns > started_ns]
            if len(flying) >= self.in_flight_max:
                row, hit = (due_ns, started_ns, started_ns, Code.OVERRUN), None
            elif rng.random() < self.error_fraction:
                row, hit = (due_ns, started_ns, started_ns, Code.ERROR), None
            else:
                done_ns, code, hit = self._attempt(started_ns, rng)
                done_ns = self._awake(done_ns)
                flying.append(done_ns)
                row = (due_ns, started_ns, done_ns, code)
            skip = rng.randint(1, 4) if rng.random() < self.dropped_fraction else max(0, skip - 1)
            if skip or row[3] in (Code.OVERRUN, Code.ERROR):
                self.blind.append(due_ns)
            if not skip:
                if row[3] in (Code.REFUSED, Code.TIMEOUT) and hit:
                    self.hits[len(rows)] = hit
                rows.append(row)
        due, start, done, code = zip(*rows, strict=True)
        columns = (array("q", due), array("q", start), array("q", done), array("B", code))
        return Attempts(*columns, interval_ns=self.interval_ns)

    def _awake(self, at_ns: int) -> int:
        """When the probe does what it would have done at *at_ns*."""
        return next((end_ns for start_ns, end_ns in self.stalls if start_ns <= at_ns < end_ns), at_ns)

    def _down_in(self, from_ns: int, to_ns: int) -> Down | None:
        return next((down for down in self.downs if down.start_ns <= to_ns and from_ns < down.end_ns), None)

    def _attempt(self, started_ns: int, rng: random.Random) -> tuple[int, Code, tuple[int, Down] | None]:
        """Completion, code, and for what went wrong the instant at which the service was bad for it."""
        latency_ns = rng.randint(1, self.latency_max_ns)
        sent_ns = started_ns + rng.randint(0, latency_ns)
        arrived_ns = self._awake(sent_ns)
        expires_ns, hit = started_ns + self.timeout_ns + (arrived_ns - sent_ns), None
        started_ns += arrived_ns - sent_ns
        down = self._down_in(arrived_ns, started_ns + latency_ns)
        if down is None:
            return started_ns + latency_ns, Code.OK, None
        hit = (max(arrived_ns, down.start_ns), down)
        if down.mode == REFUSED:
            return min(expires_ns, hit[0] + rng.randint(0, 100_000)), Code.REFUSED, hit
        done_ns = self._completed_ns(down, started_ns, latency_ns)
        return (done_ns, Code.OK, hit) if done_ns < expires_ns else (expires_ns, Code.TIMEOUT, hit)

    def _completed_ns(self, down: Down | None, started_ns: int, latency_ns: int) -> int:
        """When an attempt that *down* caught would complete if it waited for ever."""
        done_ns, retry_ns = self.end_ns * 9, 30 * MS
        while down is not None and down.mode == THAW:
            done_ns = down.end_ns + latency_ns
            down = self._down_in(down.end_ns, done_ns)
        while down is not None and down.mode == RETRIED:
            done_ns = started_ns + retry_ns + latency_ns
            down, retry_ns = self._down_in(started_ns + retry_ns, done_ns) or None, retry_ns * 2
        return done_ns if down is None else self.end_ns * 9


@st.composite
def worlds(draw: st.DrawFn, *, gaps_ms: st.SearchStrategy[int], quiet: bool = False, outages_max: int = 4) -> World:
    """A second of baseline, an injection, and outages *gaps_ms* apart; *quiet*: every attempt gives data."""
    interval_ns = draw(st.sampled_from([5, 10, 20, 50])) * MS
    timeout_ns = draw(st.sampled_from([60, 150, 400])) * MS
    injected_ns = at_ns = 1_000 * MS + draw(st.integers(0, 60 * MS))
    downs = []
    at_ns += draw(st.integers(0, 100)) * MS
    for _ in range(draw(st.integers(0, outages_max))):
        length_ns = draw(st.integers(1, 700)) * MS + draw(st.integers(0, MS))
        downs.append(Down(at_ns, at_ns + length_ns, draw(st.sampled_from([REFUSED, THAW, LOST, RETRIED]))))
        at_ns += length_ns + draw(gaps_ms) * MS + 1
    fractions = st.sampled_from([0.0, 0.0, 0.01, 0.05])
    noise = (0.0, 0.0) if quiet else (draw(fractions), draw(fractions))
    flying = 1_000 if quiet else draw(st.sampled_from([2, 8, 1_000]))
    latency_max_ns = draw(st.integers(1, 2 * interval_ns))
    lag_max_ns = draw(st.sampled_from([0, interval_ns // 4, interval_ns * 2]))
    seed = draw(st.integers(0, 2**32))
    return World(
        downs,
        injected_ns,
        interval_ns,
        timeout_ns,
        latency_max_ns,
        lag_max_ns,
        flying,
        *noise,
        at_ns + 2_500 * MS,
        seed,
    )
