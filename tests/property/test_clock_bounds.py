"""The offset's bound holds the true offset at every instant while the drift stays within the allowance."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import example, given, settings
from hypothesis import strategies as st

from protos.clock import OffsetEstimator

DRIFT_PPM = 100
leg_ns = st.integers(0, 300_000_000)


@dataclass(frozen=True)
class Clocks:
    """The controller's clock as a function of the agent's: an offset, and a drift in ppm."""

    offset_ns: int
    drift_ppm: int

    def controller_ns(self, agent_ns: int) -> int:
        return agent_ns + self.offset_ns + agent_ns * self.drift_ppm // 1_000_000


clocks = st.builds(Clocks, st.integers(-(2**60), 2**60), st.integers(-DRIFT_PPM, DRIFT_PPM))
exchanges = st.lists(st.tuples(st.integers(0, 10**12), leg_ns, leg_ns, leg_ns), min_size=1, max_size=90)


@settings(max_examples=100, deadline=None)
@given(clocks, exchanges, st.integers(0, 2 * 10**12))
def test_the_bound_holds_the_true_offset(true: Clocks, stamps: list[tuple[int, int, int, int]], asked_ns: int) -> None:
    estimator = OffsetEstimator(window=64, drift_ppm=DRIFT_PPM)
    for sent_ns, there_ns, held_ns, back_ns in stamps:
        received_ns = sent_ns + there_ns
        replied_ns = received_ns + held_ns
        clock = true.controller_ns
        assert estimator.add(sent_ns, clock(received_ns), clock(replied_ns), replied_ns + back_ns)
    offset = estimator.at(asked_ns)
    assert offset is not None
    truth_ns = true.controller_ns(asked_ns) - asked_ns
    assert offset.lo_ns <= truth_ns <= offset.hi_ns
    lo_ns, hi_ns = offset.to_agent(true.controller_ns(asked_ns))
    assert lo_ns <= asked_ns <= hi_ns


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(leg_ns, leg_ns), min_size=1, max_size=64))
@example([(0, 80), (0, 79)])  # equal once halved and rounded
def test_the_narrowest_round_trip_decides(legs: list[tuple[int, int]]) -> None:
    estimator = OffsetEstimator(drift_ppm=0)
    for there_ns, back_ns in legs:
        estimator.add(0, there_ns + 7, there_ns + 7, there_ns + back_ns)
    offset = estimator.at(0)
    assert offset is not None
    assert offset.rtt_ns == min(map(sum, legs))
    assert offset.error_ns <= offset.rtt_ns // 2 + 2
