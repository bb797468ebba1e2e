"""What agents have left behind and could not take back so far: stranded effects, and what their own audits found.

Invariant: an effect is in here from the word of its agent that it could not be reverted until its word that it is over;
across restarts of the controller too. Fed by every answer, event and hello.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import structlog

from protos.error import BlackstartError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.store.base import Store

Json = dict[str, Any]
_SETTING: Final = "leftover/"
_KEPT: Final = ("id", "run_id", "injection", "fault", "description", "undo", "resource", "state", "residue", "remedy")


class Leftovers:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stranded: dict[str, dict[str, Json]] = {}  # agent -> effect's id -> EFFECT
        self._found: dict[str, dict[str, list[str]]] = {}  # agent -> effect's id -> traces
        self._log = structlog.get_logger("controller.leftover")

    async def restore(self, agent_ids: Iterable[str]) -> None:
        """Takes up what an earlier controller knew of these agents."""
        for agent in agent_ids:
            if kept := await self._store.setting(_SETTING + agent):
                document = json.loads(kept)
                self._stranded[agent] = {row["id"]: row for row in document["stranded"]}
                self._found[agent] = dict(document["found"])

    def stranded(self, agent_id: str) -> list[Json]:
        """EFFECTs of the agent that could not be reverted, each with its remedy."""
        return list(self._stranded.get(agent_id, {}).values())

    def found(self, agent_id: str) -> list[str]:
        """What the agent's audits found left behind, and what is still there as far as they said."""
        return [text for traces in self._found.get(agent_id, {}).values() for text in traces]

    def words(self) -> list[str]:
        """One line an effect, for a human, with the command that ends it."""
        return [
            f"{agent}: {effect.get('description') or effect['id']}; by hand: {effect.get('remedy') or 'its journal'}"
            for agent, effects in sorted(self._stranded.items())
            for effect in effects.values()
        ]

    async def take(self, agent_id: str, effect: Json) -> None:
        """Takes in what the agent says of one effect."""
        effects = self._stranded.setdefault(agent_id, {})
        key = str(effect.get("id", ""))
        if effect.get("state") == "stranded":
            row = {name: effect.get(name) for name in _KEPT}
            if effects.get(key) != row:
                effects[key] = row
                self._log.error("effect stranded", agent=agent_id, what=row["description"], remedy=row["remedy"])
                await self._keep(agent_id)
        elif effects.pop(key, None) is not None:
            self._log.warning("stranded effect cleared", agent=agent_id, what=effect.get("description"))
            await self._keep(agent_id)

    async def hello(self, agent_id: str, effects: Iterable[Json]) -> None:
        """All effects that the agent says are in force at its hello: of what it does not name, nothing is left."""
        told = {str(row.get("id", "")): row for row in effects if row.get("state") == "stranded"}
        gone = self._stranded.get(agent_id, {}).keys() - told.keys()
        for key in list(gone):
            await self.take(agent_id, {"id": key, "state": "reverted"})
        for row in told.values():
            await self.take(agent_id, row)

    async def audited(self, agent_id: str, effect_id: str, left: list[str]) -> None:
        """The agent's own audit says that this is left of an effect; nothing: it is gone."""
        found = self._found.setdefault(agent_id, {})
        if found.get(effect_id, []) != left:
            found.pop(effect_id, None)
            if left:
                found[effect_id] = list(left)
            await self._keep(agent_id)

    async def _keep(self, agent_id: str) -> None:
        document = {"stranded": self.stranded(agent_id), "found": self._found.get(agent_id, {})}
        try:
            await self._store.set_setting(_SETTING + agent_id, json.dumps(document))
        except BlackstartError as error:  # in memory all the same, and the agent tells it again at its next hello
            self._log.error("what is stranded could not be stored", agent=agent_id, error=str(error))
