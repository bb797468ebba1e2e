"""From an order to planned effects that the policy allows: nothing is touched.

A plan may wait for a server. Invariant: what was ended meanwhile (a stop, the run's end, a lost controller) is not put
in force when its plan comes at last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent import remote
from agent.active import Asked
from agent.faults.base import Effect, Fault, Undo
from agent.policy import Policy
from protos.error import RefusedError

Json = dict[str, Any]


class Planning:
    """Of one agent. *policy*, *controller*: those of the moment."""

    def __init__(
        self,
        faults: Mapping[str, Fault[Any]],
        policy: Callable[[], Policy],
        controller: Callable[[], Sequence[str]],
    ) -> None:
        self._faults, self._policy, self._controller = faults, policy, controller
        self._under_way: list[Asked] = []

    async def plan(self, kind: str, spec: Json, duration_s: float) -> list[Effect]:
        """The effects that the order means, checked against the policy."""
        effects = await remote.plan(self._faults, kind, spec)
        policy = self._policy()
        for effect in effects:
            if "respect_pdb" in effect.facts:  # a fault that can leave the decision to the cluster
                effect.facts["respect_pdb"] = policy.respect_pdb
            if "protected_names" in effect.facts:  # a fault that picks targets while it is in force
                effect.facts["protected_names"] = policy.protected_processes
            if effect.touches.addresses:  # in the agent's own network namespace: SSH stays open
                effect.facts["spared_ports"] = policy.protected_ports
            policy.check(effect, 0.0 if effect.undo is Undo.SELF_HEALING else duration_s, self._controller())
        return effects

    async def plan_for(self, asked: Asked) -> list[Effect]:
        """The same for an order that is to be carried out; RefusedError when it was called off meanwhile."""
        self._under_way.append(asked)
        try:
            effects = await self.plan(asked.kind, asked.spec, asked.duration_s)
        finally:
            self._under_way = [one for one in self._under_way if one is not asked]
        if asked.called_off:
            raise RefusedError(f"{asked.injection}: {asked.called_off}")
        return effects

    def call_off(self, why: str, wanted: Callable[[Asked], bool]) -> None:
        """Orders that are being planned are not carried out."""
        for asked in filter(wanted, self._under_way):
            asked.called_off = why
