"""The zero-residue certificate: the node before a run, the node after it, and whose the difference is.

Invariant: what bears the mark of one of this run's effects (its id, its processes) is *ours*, and makes the certificate
unclean; any other change is shown as what it is, a change by *others*, and proves nothing against us.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.faults.base import Effect
from agent.system import nodestate, nvml
from agent.system.nodestate import State

Json = dict[str, Any]
_OTHERS_MAX: Final = 50  # shown; a busy node changes by itself


@dataclass(slots=True)
class Before:
    """The node, and each network namespace that the run's effects act in, as they were."""

    taken_ns: int
    node: State
    networks: dict[int, tuple[str, State]] = field(default_factory=dict)  # by inode


class Certificates:
    """One certificate a run. Every look takes some 50 ms in a thread of its own."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(folders)
        self._open: dict[str, asyncio.Task[Before]] = {}
        self._looking = asyncio.Lock()

    async def begin(self, run_id: str) -> None:
        """Looks at the node, before the run's first fault; later calls do nothing."""
        if run_id and run_id not in self._open:
            self._open[run_id] = asyncio.get_running_loop().create_task(self._first_look())
        if run_id:
            await asyncio.shield(self._open[run_id])

    async def _first_look(self) -> Before:
        taken_ns = time.monotonic_ns()
        return Before(taken_ns, await asyncio.to_thread(self._look))

    async def watch(self, run_id: str, effects: Iterable[Effect]) -> None:
        """Looks at the network namespaces that *effects* are about to act in."""
        if run_id not in self._open:
            return
        before = await self._open[run_id]
        for effect in effects:
            inode, network = effect.facts.get("inode"), effect.facts.get("network")
            if isinstance(inode, int) and network and inode not in before.networks:
                before.networks[inode] = (network, await asyncio.to_thread(nodestate.of_network, network))

    async def end(self, run_id: str, mine: Sequence[Effect], in_force: Sequence[Effect]) -> Json | None:
        """The certificate of a run that is over; None when the run was never begun here.

        Args:
            run_id: the run.
            mine: all effects of the run.
            in_force: effects of other runs that are in force now: what bears their mark is not held against this one.
        """
        task = self._open.pop(run_id, None)
        if task is None:
            return None
        before = await task
        now = await asyncio.to_thread(self._look)
        others = differences(before.node, now)
        for network, was in before.networks.values():
            there = await asyncio.to_thread(nodestate.of_network, network)
            others += differences(was, there) if there else []  # a namespace that is gone has nothing left in it
        taken_ns = time.monotonic_ns()
        foreign = marks(in_force)
        ours = [text for text in others if is_marked(text, marks(mine)) and not is_marked(text, foreign)]
        return {
            "clean": not ours,
            "ours": ours,
            "others": [text for text in others if text not in ours][:_OTHERS_MAX],
            "taken_before_ns": before.taken_ns,
            "taken_after_ns": taken_ns,
            "checks": {name: len(items) for name, items in now.items()},
        }

    def _look(self) -> State:
        state = nodestate.of_node() | nodestate.of_network("") | nodestate.files_of(self._folders)
        return state | {"GPU settings": nvml.settings()}


def differences(before: State, after: State) -> list[str]:
    """`+ category: item` for what is new, `- category: item` for what is gone, over what was looked at both times."""
    found = []
    for name in sorted(before.keys() & after.keys()):
        found += [f"+ {name}: {item}" for item in sorted(after[name] - before[name])]
        found += [f"- {name}: {item}" for item in sorted(before[name] - after[name])]
    return found


def marks(effects: Iterable[Effect]) -> set[str]:
    """Words by which something can be known to belong to an effect: its id, and the processes that it touched."""
    found = set()
    for effect in effects:
        found.add(effect.id)
        found |= {f"(pid {one.pid}, started {one.start})" for one in effect.touches.processes}
        found |= set(effect.facts.get("marks", ()))  # what a fault itself names: a qdisc's handle on its device
    return found


def is_marked(text: str, words: Iterable[str]) -> bool:
    return any(word in text for word in words)
