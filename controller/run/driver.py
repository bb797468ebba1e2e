"""The driver functions: what an experiment may ask of the fleet, by the names of docs/architecture.md.

Invariant: nothing is injected that admission has not reserved; what was reserved stays so until the effect is known to
be over. An injection that failed on one agent is reverted on all before the error is raised.
"""

from __future__ import annotations

import inspect
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from controller.admission import Reservation
from controller.run import picking, shaping
from controller.run.active import Injection, ProbeUse, check_injection, lasting
from controller.run.measuring import Measuring
from controller.run.part import SHORT_S
from protos.error import BlackstartError, ProbeError, Problem, RefusedError, SpecError, StrandedError

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]
FUNCTIONS: Final = (
    "start_probe", "observe", "inject", "revert", "recovery", "data_loss", "capacity", "uptime", "phases",
    "cascade", "run_workload",
)  # fmt: skip
MEASURES: Final = ("success_fraction", "p50_ms", "p99_ms", "max_ms", "rate_s")
INJECT_S: Final = 60.0  # an injection includes its receipt
REVERT_S: Final = 30.0
WORKLOAD_S: Final = 3600.0


class Driver(Measuring):
    """The functions, for one run."""

    async def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """The result of *function*; SpecError if there is none of that name or the arguments do not fit."""
        if function not in FUNCTIONS:
            raise SpecError(f"no driver function {function!r}; there are {', '.join(FUNCTIONS)}")
        method = getattr(self, function)
        try:
            bound = inspect.signature(method).bind(**arguments)
        except TypeError as error:
            raise SpecError(f"{function}: {error}") from error
        return await method(*bound.args, **bound.kwargs)

    async def start_probe(
        self, name: str, kind: str, targets: Json, spec: Json, *, interval_ms: float = 20, timeout_ms: float = 1000,
        stable_s: float = 3.0, p99_max_ms: float | None = None,
    ) -> Json:  # fmt: skip
        """Starts a probe on every agent picked: `{name, agents}`."""
        if name in self._run.probes:
            raise SpecError(f"probe {name!r} runs already in this run; give the second one another name")
        agents = await self._pick("probe", kind, targets)
        settings = {
            "name": name, "kind": kind, "spec": spec, "interval_ms": interval_ms, "timeout_ms": timeout_ms,
            "stable_s": stable_s,
        }  # fmt: skip
        arguments = settings | ({} if p99_max_ms is None else {"p99_max_ms": p99_max_ms})
        await self._touch(agents)
        self._run.probes[name] = ProbeUse(name, agents, settings)
        await self._reach.store.put(self._run.id, "probes", name, settings | {"agents": agents})
        try:
            self._all(await self._order_all(agents, "probe.start", arguments, SHORT_S))
        except BlackstartError:
            del self._run.probes[name]
            await self._order_all(agents, "probe.stop", {"name": name}, SHORT_S)
            raise
        await self._tell("probe.started", f"Probe {name} ({kind}) runs on {', '.join(agents)} every {interval_ms:g} ms")
        return {"name": name, "agents": agents}

    async def observe(self, probe: str, measure: str = "success_fraction", window_s: float = 5.0) -> float:
        """The measure over the last *window_s*; of several agents the worst: least fraction or rate, most time."""
        if measure not in MEASURES:
            raise SpecError(f"no measure {measure!r}; there are {', '.join(MEASURES)}")
        arguments = {"name": probe, "measure": measure, "window_s": window_s}
        answers = self._all(await self._order_all(self._probe(probe).agents, "probe.observe", arguments, SHORT_S))
        if empty := [agent for agent, answer in answers.items() if answer.get("value") is None]:
            raise ProbeError(f"probe {probe} has no data of the last {window_s:g} s on {', '.join(empty)}")
        values = [float(answer["value"]) for answer in answers.values()]
        return min(values) if measure in ("success_fraction", "rate_s") else max(values)

    async def inject(
        self, fault: str, targets: Json, spec: Json | None = None, *, duration_s: float = 300,
        on_lost_controller: str = "revert", name: str | None = None, follow: bool = False,
    ) -> Json:  # fmt: skip
        """Injects on every agent picked, together: `{name, fault, effects, confirmed}`."""
        name = name or self._free_name(fault)
        check_injection(self._run, name, duration_s, on_lost_controller)
        specs, whom = await shaping.specs(self._reach, self._run.seed, fault, targets, spec or {})
        agents = list(specs)
        injection = Injection(name, fault, whom, agents)
        each = {agent: {"spec": own} for agent, own in specs.items()}
        plan = {"fault": fault, "duration_s": duration_s}
        planned = self._all(await self._order_all(agents, "fault.plan", plan, SHORT_S, each=each))
        self._admit(injection, planned, duration_s)
        arguments = {
            "injection": name, "fault": fault, "duration_s": duration_s,
            "on_lost_controller": on_lost_controller, **({"follow": True} if follow else {}),
        }  # fmt: skip
        await self._touch(agents)
        self._run.injections[name] = injection
        await self._keep(injection)
        await self._tell("fault.injecting", f"Injecting {fault} ({name}) on {whom}")
        answers = await self._order_all(agents, "fault.inject", arguments, INJECT_S, together=True, each=each)
        self._take(injection, answers)
        if failed := {agent: answer for agent, answer in answers.items() if isinstance(answer, BlackstartError)}:
            await self._undo(injection, failed)
        await self._keep(injection)
        self._release_ended(injection)
        proof = "confirmed" if injection.confirmed else "NOT confirmed"
        receipts = "; ".join(f"{e['agent_id']}: {e.get('receipt') or e['description']}" for e in injection.effects)
        await self._tell("fault.injected", f"{name} took hold, {proof} ({receipts})", injection.document())
        return injection.document()

    async def revert(self, name: str | None = None) -> Json:
        """Reverts one injection, or all of the run: `{effects, residue}`."""
        chosen = [self._injection(name)] if name else list(self._run.injections.values())
        residue: list[str] = []
        for injection in chosen:
            answers = await self._order_all(injection.agents, "fault.revert", {"injection": injection.name}, REVERT_S)
            self._take(injection, answers)
            await self._keep(injection)
            self._release_ended(injection)
            residue += [text for a in answers.values() if isinstance(a, dict) for text in a.get("residue", ())]
            self._all(answers)
            if stuck := [effect for effect in injection.effects if effect["state"] == "stranded"]:
                remedies = "; ".join(f"{e['agent_id']}: {e.get('remedy')}" for e in stuck)
                raise StrandedError(f"{injection.name} could not be reverted; by hand: {remedies}")
            await self._tell("fault.reverted", f"{injection.name} is reverted on {', '.join(injection.agents)}")
        return {"effects": [effect for one in chosen for effect in one.effects], "residue": residue}

    async def run_workload(self, kind: str, targets: Json, spec: Json) -> Json:
        """Runs a workload on every agent picked: `{figures}`, each with `agent_id`, and `{details}` by agent."""
        agents = await self._pick("workload", kind, targets)
        await self._touch(agents)
        await self._tell("workload.started", f"Workload {kind} runs on {', '.join(agents)}")
        timeout_s = float(spec.get("timeout_s", WORKLOAD_S)) + SHORT_S
        answers = await self._order_all(agents, "workload.run", {"kind": kind, "spec": spec}, timeout_s, together=True)
        figures, told = [], []
        bodies = self._all(answers)
        for agent, answer in bodies.items():
            told += [f"{agent}: {answer['summary']}"] if answer.get("summary") else []
            for figure in answer.get("figures", ()):
                figures.append(figure | {"agent_id": agent})
                self._run.figures += 1
                await self._reach.store.put(self._run.id, "figures", str(self._run.figures), figures[-1])
        await self._keep_goals(kind, bodies)
        for agent, answer in bodies.items():
            if answer.get("detail"):
                self._run.figures += 1
                entry = {"kind": kind, "agent_id": agent} | {name: answer.get(name) for name in ("summary", "detail")}
                await self._reach.store.put(self._run.id, "workloads", str(self._run.figures), entry)
        details = {agent: answer["detail"] for agent, answer in bodies.items() if answer.get("detail")}
        text = "; ".join([f"Workload {kind} ended on {', '.join(agents)}", *told])
        await self._tell("workload.ended", text, {"figures": figures, **({"details": details} if details else {})})
        return {"figures": figures, **({"details": details} if details else {})}

    async def _keep_goals(self, kind: str, bodies: Mapping[str, Json]) -> None:
        """What a workload was held against; the verdict is drawn from it."""
        for agent, body in bodies.items():
            for goal in body.get("detail", {}).get("objectives", ()):
                entry = goal | {"workload": kind, "agent_id": agent}
                self._run.figures += 1
                await self._reach.store.put(self._run.id, "goals", str(self._run.figures), entry)

    async def _undo(self, injection: Injection, failed: Mapping[str, BlackstartError]) -> None:
        """Reverts what took hold where others failed, and raises the first failure with the names of all."""
        answers = await self._order_all(injection.agents, "fault.revert", {"injection": injection.name}, REVERT_S)
        self._take(injection, answers)
        await self._keep(injection)
        self._release_ended(injection, answered=[a for a, body in answers.items() if isinstance(body, dict)])
        first = next(iter(failed.values()))
        text = f"{injection.name} failed on {', '.join(failed)} and is reverted everywhere: {first}"
        await self._tell("fault.failed", text)
        why = text.removeprefix(f"{injection.name} ")
        raise SpecError(Problem(injection.name, why)) if isinstance(first, SpecError) else type(first)(text)

    async def _pick(self, family: str, kind: str, targets: Json) -> list[str]:
        return (await picking.pick(self._reach, family, kind, targets, seed=self._run.seed))[1]

    def _free_name(self, fault: str) -> str:
        if fault not in self._run.injections:
            return fault
        return next(n for k in range(2, 10_000) if (n := f"{fault}-{k}") not in self._run.injections)

    def _admit(self, injection: Injection, planned: Mapping[str, Json], duration_s: float) -> None:
        wanted = [
            Reservation(self._run.id, injection.name, agent, injection.fault, effect["resource"])
            for agent, plan in planned.items()
            for effect in plan.get("effects", ())
        ]
        connected = {member.id: member.labels for member in self._reach.fleet.connected()}
        self._check_going()
        lasts_s = 2 * INJECT_S + duration_s  # an order waits so long at most, and its agent as long again
        self._reach.admission.admit(wanted, connected=connected, now=datetime.now(UTC), lasts_s=lasts_s)
        injection.until_wall_ns = time.time_ns() + int(lasts_s * 1e9)

    def _release_ended(self, injection: Injection, answered: list[str] | None = None) -> None:
        """Frees what is over: effects known to have ended, and all of the agents that *answered* a revert."""
        for agent in injection.agents:
            mine = [effect for effect in injection.effects if effect["agent_id"] == agent]
            over = bool(mine) or agent in (answered or ())
            if over and not any(lasting(effect) for effect in mine):
                self._reach.admission.release(run_id=self._run.id, injection=injection.name, agent_id=agent)

    def _check_going(self) -> None:
        if self._run.closing:
            raise RefusedError(f"run {self._run.id} is over: {self._run.reason or 'it is closing'}")

    def _take(self, injection: Injection, answers: Mapping[str, Json | BlackstartError]) -> None:
        for agent, answer in answers.items():
            for effect in answer.get("effects", ()) if isinstance(answer, dict) else ():
                injection.take(agent, effect)

    async def _keep(self, injection: Injection) -> None:
        await self._reach.keep(self._run.id, injection)

    async def _touch(self, agents: list[str]) -> None:
        for agent in agents:
            if agent not in self._run.touched:
                self._run.touched.add(agent)
                await self._reach.store.put(self._run.id, "touched", agent, {})
                await self._reach.keep_clock(self._run.id, agent)
