"""What an agent takes from a controller before it looks inside: the bounds on messages, and on their rate.

A controller's certificate proves who it is, not that it is sane: it may be broken, or taken over. Invariant: whatever
it sends, the agent goes on, keeps its node's policy, and can be told to stop: what ends faults is let through when a
flood is not, and the emergency stop always.
"""

from __future__ import annotations

import math
from typing import Final

from agent.rate import Bucket
from protos import blackstart_agent_pb2 as pb

LEASE_S: Final = (0.2, 600.0)  # least and most that a controller may ask for
HEARTBEAT_S: Final = (0.02, 60.0)
NUMBER_MAX: Final = 2**62  # epochs and sequences: what the spool's database can hold, with room to count on
ARGUMENTS_MAX: Final = 256 * 1024  # bytes; a spec with 10,000 addresses has 200,000
AHEAD_S: Final = 60.0  # how far ahead of time an order may be given; a common start is set 0.1 s ahead
DEADLINE_S: Final = 30 * 86_400.0
IN_FLIGHT_MAX: Final = 128  # orders under way at once
ENDING: Final = frozenset(("fault.revert", "probe.stop", "run.end"))  # a flood of other orders does not hold these up
STOP: Final = "node.stop"
_BURST, _PER_S = 200, 50.0  # orders; a run sends a few a second, and planning one may take 10 ms
_LENGTHS: Final = {"id": 128, "kind": 64, "run_id": 128, "actor": 256}  # characters


class Gate:
    """One agent's; its buckets outlive the streams, so that a reconnect empties none."""

    def __init__(self) -> None:
        self._orders, self._endings = Bucket(_BURST, _PER_S), Bucket(_BURST, _PER_S)

    def flood(self, kind: str, in_flight: int) -> str:
        """Why there are too many orders for one more of *kind*; empty if there are not."""
        if kind == STOP:
            return ""
        if not (self._endings if kind in ENDING else self._orders).take():
            return f"more than {_PER_S:g} orders a second"
        if in_flight >= IN_FLIGHT_MAX and kind not in ENDING:
            return f"{in_flight} orders are under way already"
        return ""


def wrong_order(order: pb.Order, now_ns: int) -> str:
    """What is wrong with an order from outside; empty if nothing is."""
    for field, most in _LENGTHS.items():
        if len(getattr(order, field)) > most:
            return f"its {field} is longer than {most} characters"
    if not order.id or not order.kind:
        return "it has no id or no kind"
    if len(order.arguments_json) > ARGUMENTS_MAX:
        return f"its arguments are longer than {ARGUMENTS_MAX} bytes"
    if order.epoch > NUMBER_MAX:
        return f"its epoch is above {NUMBER_MAX}"
    if not 0 <= order.deadline_s <= DEADLINE_S:
        return f"its deadline, {order.deadline_s:g} s, is not in 0..{DEADLINE_S:g} s"
    if not 0 <= order.not_before_ns <= now_ns + AHEAD_S * 1e9:
        return f"it is to start more than {AHEAD_S:g} s ahead"
    return ""


def wrong_welcome(welcome: pb.Welcome, welcomed: bool, seen_epoch: int) -> str:
    """Why this agent does not go with a controller that welcomes it so; empty if it does. 0 stands for the default."""
    if welcomed:
        return "a second welcome on one stream"
    if welcome.epoch < seen_epoch:
        return f"the controller's epoch {welcome.epoch} is older than {seen_epoch}"
    if welcome.epoch > NUMBER_MAX or welcome.acknowledged > NUMBER_MAX:
        return f"an epoch or a sequence above {NUMBER_MAX}"
    for name, value, (least, most) in (
        ("lease", welcome.lease_s, LEASE_S), ("heartbeat", welcome.heartbeat_s, HEARTBEAT_S),
    ):  # fmt: skip
        if value and not (math.isfinite(value) and least <= value <= most):
            return f"a {name} of {value:g} s is not in {least:g}..{most:g} s"
    return ""
