"""Offset between the clocks of two nodes, from four timestamps per exchange, with a bound on its error. Pure.

Invariant: while the true offset drifts by no more than the allowance, `Offset.lo_ns <= true offset <= Offset.hi_ns`.
Holds no clock and reads none: every time comes in as an argument.
Source: docs/measuring-recovery.md, section 6.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

DRIFT_PPM: Final = 100.0  # two crystals of 50 ppm each, the worst that common boards are sold with
WINDOW: Final = 64  # exchanges; at a heartbeat a second a quiet minute is among them
_PPM: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Offset:
    """Controller's clock minus agent's clock, with the half width of its bound, ns."""

    offset_ns: int
    error_ns: int
    rtt_ns: int  # of the exchange it was taken from

    @property
    def lo_ns(self) -> int:
        return self.offset_ns - self.error_ns

    @property
    def hi_ns(self) -> int:
        return self.offset_ns + self.error_ns

    def to_controller(self, agent_ns: int) -> tuple[int, int]:
        """Bounds on the controller's clock at the instant at which the agent's showed *agent_ns*."""
        return agent_ns + self.lo_ns, agent_ns + self.hi_ns

    def to_agent(self, controller_ns: int) -> tuple[int, int]:
        """Bounds on the agent's clock at the instant at which the controller's showed *controller_ns*."""
        return controller_ns - self.hi_ns, controller_ns - self.lo_ns


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One exchange: when it ran on the agent's clock, and the two sides of what it says about the offset."""

    sent_ns: int
    received_ns: int
    lo_ns: int
    hi_ns: int

    def widened_ns(self, agent_ns: int, drift_ppm: float) -> int:
        """What drift may have added between this exchange and *agent_ns*, rounded up."""
        age_ns = max(abs(agent_ns - self.sent_ns), abs(agent_ns - self.received_ns))
        return int(age_ns * drift_ppm * _PPM) + 1


class OffsetEstimator:
    """Keeps the last exchanges of one agent, and answers from the one with the smallest error bound.

    The reply of the controller was sent after it was received, and each leg took some time >= 0; so the offset lies in
    [controller_sent - agent_received, controller_received - agent_sent], an interval as wide as the round trip. A queue
    on the way widens the interval and never makes it wrong, hence the choice of the narrowest (minimum round trip),
    after adding what drift may have done since.

    Make a new one when the agent's boot id changes: its monotonic clock then starts again.
    """

    def __init__(self, *, window: int = WINDOW, drift_ppm: float = DRIFT_PPM) -> None:
        self._exchanges: deque[_Exchange] = deque(maxlen=window)
        self._drift_ppm = drift_ppm

    def __len__(self) -> int:
        return len(self._exchanges)

    def add(
        self, agent_sent_ns: int, controller_received_ns: int, controller_sent_ns: int, agent_received_ns: int
    ) -> bool:
        """Takes one exchange in; False, and nothing kept, when its stamps cannot be of one exchange."""
        hi_ns = controller_received_ns - agent_sent_ns
        lo_ns = controller_sent_ns - agent_received_ns
        ordered = agent_sent_ns <= agent_received_ns and controller_received_ns <= controller_sent_ns
        drift_ns = int((agent_received_ns - agent_sent_ns) * self._drift_ppm * _PPM) + 1
        if not ordered or lo_ns > hi_ns + drift_ns:
            return False
        self._exchanges.append(_Exchange(agent_sent_ns, agent_received_ns, lo_ns, hi_ns))
        return True

    def at(self, agent_ns: int) -> Offset | None:
        """The offset at an instant of the agent's clock, past or present; None before the first exchange."""
        best: Offset | None = None
        for exchange in self._exchanges:
            widened_ns = exchange.widened_ns(agent_ns, self._drift_ppm)
            lo_ns, hi_ns = exchange.lo_ns - widened_ns, exchange.hi_ns + widened_ns
            error_ns = (hi_ns - lo_ns + 1) // 2
            rtt_ns = max(0, exchange.hi_ns - exchange.lo_ns)
            if best is None or (error_ns, rtt_ns) < (best.error_ns, best.rtt_ns):
                best = Offset((lo_ns + hi_ns) // 2, error_ns, rtt_ns)
        return best
