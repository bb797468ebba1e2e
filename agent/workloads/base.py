"""What a workload is: something that a run has a node do, and the figures that come of it.

Invariant: `end` returns once nothing of that run's workload is left, and is harmless where there is none. It may come
at any moment after `run` was called, and more than once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from protos.figure import Figure

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """Figures, and what led to them (JSON) where a kind keeps it; *summary*: one sentence for a human."""

    figures: list[Figure]
    detail: Json = field(default_factory=dict)
    summary: str = ""


class Workload(Protocol):
    """One kind. `run`: SpecError, RefusedError by policy, ProbeError if it cannot be measured, StrandedError."""

    kind: ClassVar[str]

    async def run(self, run_id: str, document: Json) -> Done: ...
    async def end(self, run_id: str | None = None) -> None: ...
