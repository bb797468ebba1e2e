"""A ledger read back: through the service, and from each of its members alone.

Invariant: losses are told only of what could be read back; else the balance says that it is not complete.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, Protocol, TypeGuard

from agent.probes.base import Probe
from agent.probes.ledger import Ledger
from protos.error import ProbeError
from protos.ledger import RANGES_MAX, compare, ranges, unread

_ATTEMPT_S: Final = 10.0  # for one reading
_PAUSE_S: Final = 0.5


class LedgerProbe(Probe, Protocol):
    """A probe whose attempts may be numbered records."""

    keeps_ledger: bool
    ledger: Ledger | None

    async def present(self, timeout_s: float) -> tuple[list[int], dict[str, list[int] | str]]:
        """Numbers in the service's own order, and those of each member, or why not. Raises what the service did."""
        ...


def wanted(probe: Probe) -> TypeGuard[LedgerProbe]:
    """Whether the probe's spec asks for a ledger."""
    return bool(getattr(probe, "keeps_ledger", False))


async def balance(name: str, probe: Probe, wait_s: float) -> dict[str, Any]:
    """The balance of a probe's ledger as soon as it can be read back, at most *wait_s* from now."""
    if not wanted(probe) or probe.ledger is None:
        raise ProbeError(f"probe {name} keeps no ledger: start it with `mode: ledger`")
    until = time.monotonic() + wait_s
    while True:
        written = probe.ledger.written()  # before the reading: what is acknowledged meanwhile is not asked for
        try:
            present, members = await probe.present(_ATTEMPT_S)
            break
        except Exception as error:  # noqa: BLE001 - whatever the service's library raises, it may be back in a moment
            if time.monotonic() + _PAUSE_S > until:
                return unread(written, f"could not be read back: {error or type(error).__name__}").document()
        await asyncio.sleep(_PAUSE_S)
    count = len(written.sent_ns)
    document = (await asyncio.to_thread(compare, written, [n for n in present if n < count])).document()
    document["members"] = {
        member: _member(numbers, set(present), written.acknowledged_ns, count) for member, numbers in members.items()
    }
    return document


def _member(numbers: list[int] | str, main: set[int], acknowledged_ns: Any, count: int) -> dict[str, Any]:
    """What one member alone has: records that the service does not give out are the mark of a split brain."""
    if isinstance(numbers, str):
        return {"away": numbers, "only_there": 0, "acknowledged_only_there": 0}
    own = {number for number in numbers if number < count}
    only = sorted(own - main)
    return {
        "present": len(own), "only_there": len(only), "only_there_ranges": ranges(only)[:RANGES_MAX],
        "acknowledged_only_there": sum(acknowledged_ns[number] != 0 for number in only),
    }  # fmt: skip
