"""What a workload told of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class WorkloadEntry:
    """Beside its figures; *detail* is its own, with instants of the agent's clock in ns."""

    kind: str
    agent_id: str
    wall_offset_ns: int  # to be added to those instants
    summary: str
    detail: dict[str, Any]
