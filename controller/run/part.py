"""What all driver functions share: the run, its fleet, and how orders are sent and answers taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from controller.run.active import ActiveRun, Injection, ProbeUse
from protos.error import BlackstartError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.run.reach import Reach

Json = dict[str, Any]
SHORT_S: Final = 15.0


class Part:
    """One run's way to its fleet."""

    def __init__(self, reach: Reach, run: ActiveRun, progress: Callable[[str], None] = lambda _line: None) -> None:
        self._reach, self._run, self._progress = reach, run, progress

    def _probe(self, name: str) -> ProbeUse:
        if name not in self._run.probes:
            raise SpecError(f"no probe {name!r} in this run; started are: {', '.join(self._run.probes) or 'none'}")
        return self._run.probes[name]

    def _injection(self, name: str) -> Injection:
        if name not in self._run.injections:
            known = ", ".join(self._run.injections) or "none"
            raise SpecError(f"no injection {name!r} in this run; there are: {known}")
        return self._run.injections[name]

    async def _tell(self, kind: str, message: str, body: Json | None = None) -> None:
        self._progress(message)
        await self._reach.chronicle.add(self._run.id, kind, message, body)

    async def _order_all(
        self, agents: list[str], kind: str, arguments: Json, timeout_s: float, *, together: bool = False,
        each: Mapping[str, Json] | None = None,
    ) -> dict[str, Json | BlackstartError]:  # fmt: skip
        return await self._reach.dispatch.order_all(
            agents, kind, arguments, run_id=self._run.id, actor=self._run.record.actor, timeout_s=timeout_s,
            together=together, each=each,
        )  # fmt: skip

    @staticmethod
    def _all(answers: Mapping[str, Json | BlackstartError]) -> dict[str, Json]:
        """The bodies, where every agent gave one; else the first error."""
        for answer in answers.values():
            if isinstance(answer, BlackstartError):
                raise answer
        return {agent: answer for agent, answer in answers.items() if isinstance(answer, dict)}
