"""The driver functions that measure: recovery, data loss, capacity, uptime, phases of a recovery, and cascades.

Invariant: each answer stands in the store, with its objective and result, before the caller has it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from controller.run import cascading, counting, measure, phasing, recovering
from controller.run.active import Injection
from controller.run.part import SHORT_S, Part
from protos.error import SpecError
from protos.reference import order_problem

Json = dict[str, Any]


class Measuring(Part):
    """Those functions, for one run."""

    async def recovery(
        self, probe: str, after: str | None = None, objective: str | None = None, wait_s: float = 120
    ) -> Json:
        """Recovery after an injection (default: the last one), the worst over the probe's agents."""
        use = self._probe(probe)
        injection = self._after(after, "recovery")
        rto_s = recovering.rto_s(self._run, objective)
        await self._tell("recovery.waiting", f"Waiting up to {wait_s:g} s until {probe} is good after {injection.name}")
        entries = await asyncio.gather(
            *(recovering.seen_by(self._reach, self._run, use, injection, agent, wait_s) for agent in use.agents)
        )
        for entry in entries:
            entry |= {"objective": objective or "", "rto_s": rto_s}
            entry["result"] = measure.result(entry, rto_s, confirmed=injection.confirmed)
            if not injection.confirmed:
                entry["note"] = "; ".join(filter(None, (entry.get("note"), "the fault has no proof of effect")))
            key = f"{probe}|{injection.name}|{entry['agent_id']}"
            await self._reach.store.put(self._run.id, "recoveries", key, entry)
            await self._tell("recovery.measured", measure.sentence(entry), entry)
        return measure.worst(entries)

    async def data_loss(self, probe: str, objective: str | None = None, wait_s: float = 60) -> Json:
        """What became of the records of a ledger probe, the worst over its agents."""
        use, rpo_s = self._probe(probe), recovering.rpo_s(self._run, objective)
        await self._tell("ledger.reading", f"Reading back what {probe} wrote, for up to {wait_s:g} s")
        arguments = {"name": probe, "wait_s": wait_s}
        answers = self._all(await self._order_all(use.agents, "probe.ledger", arguments, wait_s + SHORT_S))
        entries = []
        for agent, answer in answers.items():
            entry = answer | {"probe": probe, "agent_id": agent, "objective": objective or "", "rpo_s": rpo_s}
            entry["result"] = measure.loss_result(entry, rpo_s)
            await self._reach.store.put(self._run.id, "losses", f"{probe}|{agent}", entry)
            await self._tell("loss.measured", measure.loss_sentence(entry), entry)
            entries.append(entry)
        return max(entries, key=lambda entry: (measure.SEVERITY[entry["result"]], entry["lost"]))

    async def capacity(
        self, probe: str, after: str | None = None, objective: str | None = None, skip_s: float = 0.0
    ) -> Json:
        """Goodput while an injection was in force over that before it, the worst over the probe's agents."""
        use, injection = self._probe(probe), self._after(after, "capacity")
        limits = counting.limits(self._run, objective)
        entries = [
            await counting.capacity(self._reach, self._run, use, injection, agent, skip_s) for agent in use.agents
        ]
        return await self._judge_shares(entries, objective, limits)

    async def uptime(self, probe: str, objective: str | None = None, period: str = "month") -> Json:
        """Availability since the probe began, the worst over its agents; *period* is what the objective is held to."""
        if period not in counting.PERIODS:
            raise SpecError(f"period {period!r}: write {' or '.join(counting.PERIODS)}")
        use, limits = self._probe(probe), counting.limits(self._run, objective)
        entries = [await counting.uptime(self._reach, self._run, use, agent, limits, period) for agent in use.agents]
        return await self._judge_shares(entries, objective, limits)

    async def phases(self, probe: str, events: list[str], order: list[str], after: str | None = None) -> Json:
        """What a recovery consists of: the first of each mark in *order* that the probes *events* saw after it."""
        use, injection = self._probe(probe), self._after(after, "phases")
        rows = [row for row in await self._recoveries(injection) if row["probe"] == probe]
        if not rows:
            raise SpecError(f"phases: ask for the recovery of {probe} after {injection.name} first")
        entry = await phasing.phases(
            self._reach, self._run, measure.worst(rows), injection, [self._probe(name) for name in events], order
        )
        await self._reach.store.put(self._run.id, "phases", f"{probe}|{injection.name}|{use.agents[0]}", entry)
        await self._tell("phases.measured", phasing.sentence(entry), entry)
        return entry

    async def cascade(self, probes: list[str], after: str | None = None, order: list[Any] | None = None) -> Json:
        """In which order the probes failed after an injection, beside the *order* that is expected."""
        if wrong := order_problem(probes, order):
            raise SpecError(f"cascade: {wrong}")
        injection = self._after(after, "cascade")
        for name in probes:
            self._probe(name)
        rows = await self._recoveries(injection)
        entry = cascading.cascade(self._reach, rows, injection, probes, order)
        key = "|".join([injection.name, *probes, str(order)])
        await self._reach.store.put(self._run.id, "cascades", key, entry)
        await self._tell("cascade.measured", cascading.sentence(entry), entry)
        return entry

    async def _recoveries(self, injection: Injection) -> list[Json]:
        """Those that were measured after *injection*."""
        kept = await self._reach.store.documents(self._run.id, "recoveries")
        return [row for row in kept.values() if row["after"] == injection.name]

    def _after(self, name: str | None, function: str) -> Injection:
        """The injection of that name, or the last."""
        if not self._run.injections:
            raise SpecError(f"{function}: this run has injected nothing yet")
        return self._injection(name) if name else list(self._run.injections.values())[-1]

    async def _judge_shares(self, entries: list[Json], objective: str | None, limits: counting.Limits) -> Json:
        for entry in entries:
            entry |= {"objective": objective or "", "at_least": limits.at_least, "at_most": limits.at_most}
            entry["result"] = counting.result(entry)
            key = f"{entry['kind']}|{entry['probe']}|{entry['after']}|{entry['agent_id']}"
            await self._reach.store.put(self._run.id, "shares", key, entry)
            await self._tell("share.measured", counting.sentence(entry), entry)
        return max(entries, key=lambda entry: (measure.SEVERITY[entry["result"]], -entry["value"]))
