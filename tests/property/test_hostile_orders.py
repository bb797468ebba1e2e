"""Whatever an order's arguments are, the agent answers, and nothing is begun that was not asked for in good form.

The faults are the real ones up to their specs; behind these stands a recorder, so that no example touches this machine.
"""

from __future__ import annotations

import asyncio
import copy
import math
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.effect import Effects
from agent.executor import Executor, InjectArguments
from agent.faults.base import Effect, Injected, Receipt, Undo
from agent.faults.registry import KINDS, all_faults
from agent.journal import Record
from agent.policy import Policy
from agent.probes.engine import ProbeEngine
from agent.workloads.command import CommandWorkload
from protos import blackstart_agent_pb2 as pb

LONGEST_S = 300.0
quick = settings(max_examples=250, deadline=None, derandomize=True)
FAULTS = {kind: all_faults()[kind] for kind in KINDS}
ANSWERS = (pb.STATUS_DONE, pb.STATUS_REFUSED, pb.STATUS_INVALID)


class Recorder:
    """Stands for one kind: its real spec, and an effect that is a note."""

    undo = Undo.GUARDIAN

    def __init__(self, kind: str) -> None:
        self.kind, self.spec = kind, FAULTS[kind].spec

    def missing(self) -> str:
        return ""

    def plan(self, spec: Any) -> list[Effect]:
        assert isinstance(spec, self.spec)
        return [Effect(fault=self.kind, resource=repr(spec), description="a note", undo=self.undo, facts={})]

    def prepare(self, effect: Effect) -> None: ...

    async def inject(self, effect: Effect) -> Injected:
        return Injected(1, 2)

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        return Receipt(confirmed=True, text="seen", lo_ns=1, hi_ns=2)

    async def revert(self, effect: Effect) -> None: ...

    def residue(self, effect: Effect) -> list[str]:
        return []

    def remedy(self, effect: Effect) -> str:
        return ""


class Notebook:
    """A journal in memory, and a guardian who is always there."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.append = self.records.append

    def compact(self) -> None: ...

    async def arm(self) -> None: ...


class Bench:
    """An executor as the agent composes it, over recorders."""

    def __init__(self) -> None:
        self.notebook: Any = Notebook()
        self.effects = Effects(
            journal=self.notebook, guardian=self.notebook, controller=list, notify=lambda *_: None,
            policy=lambda: Policy(faults=["*"], longest_s=LONGEST_S), faults={kind: Recorder(kind) for kind in KINDS},
        )  # fmt: skip
        self.probes = ProbeEngine(sink=lambda *_: None)
        self.executor = Executor(self.effects, self.probes, [CommandWorkload(lambda _: False)])

    async def close(self) -> None:
        await self.effects.close()
        await self.probes.close()


def answered(kind: str, body: bytes) -> tuple[pb.Result, list[Record]]:
    """The answer to one order, and what the journal had by then."""

    async def work() -> tuple[pb.Result, list[Record]]:
        bench = Bench()
        result = await bench.executor.execute(pb.Order(id="1", kind=kind, arguments_json=body, run_id="r"), 0)
        records = list(bench.notebook.records)
        await bench.close()
        return result, records

    return asyncio.run(work())


def in_good_form(body: bytes) -> bool:
    """The model: what may be begun."""
    try:
        asked = msgspec.json.decode(body, type=InjectArguments)
        msgspec.convert(asked.spec, FAULTS[asked.fault].spec)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return False
    return 0 < asked.duration_s <= LONGEST_S and asked.on_lost_controller in ("revert", "hold")


leaves = (
    st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False)
    | st.text(max_size=6) | st.sampled_from(["hold", "both", "10.0.0.1", "1", "inf", "nan", 0, -1, 1e308, 2**63])
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
paths = st.lists(st.integers(0, 9), min_size=1, max_size=3)


def _changed(document: Any, path: list[int], value: Any, drop: bool) -> Any:
    """*document* with the part at *path* (by position) replaced, or dropped."""
    document = copy.deepcopy(document)
    part = document
    for at in path[:-1]:
        inner = list(part.values()) if isinstance(part, dict) else part
        if not isinstance(inner, list) or not inner or not isinstance(inner[at % len(inner)], dict | list):
            break
        part = inner[at % len(inner)]
    keys = list(part) if isinstance(part, dict) else list(range(len(part)))
    if keys and drop:
        del part[keys[path[-1] % len(keys)]]
    elif keys:
        part[keys[path[-1] % len(keys)]] = value
    return document


good = st.sampled_from(sorted(KINDS)).map(
    lambda kind: {"injection": "i", "fault": kind, "spec": FAULTS[kind].page.example, "duration_s": 10.0,
                  "on_lost_controller": "revert", "follow": False}
)  # fmt: skip
nearly = st.builds(_changed, good, paths, values, st.booleans())
bodies = (good | nearly | st.builds(_changed, nearly, paths, values, st.booleans()) | values).map(msgspec.json.encode)


@quick
@given(bodies | st.binary(max_size=60))
@example(b'{"injection": "i", "fault": "resource.cpu", "on_lost_controller": "never"}')
@example(b'{"injection": "i", "fault": "resource.cpu", "duration_s": 300.5}')
def test_nothing_is_begun_that_is_not_in_good_form(body: bytes) -> None:
    result, records = answered("fault.inject", body)
    assert result.status in ANSWERS, result.message
    assert (result.status == pb.STATUS_DONE) == bool(records)
    if records:
        assert in_good_form(body)
        assert records[0].step == "intent"
        assert records[0].effect.deadline_ns > 0
        assert math.isfinite(records[0].effect.duration_s)


@quick
@given(good.map(msgspec.json.encode))
def test_what_is_in_good_form_is_begun(body: bytes) -> None:
    result, records = answered("fault.inject", body)
    assert result.status == pb.STATUS_DONE, result.message
    assert [row.step for row in records] == ["intent", "injected"]


OTHERS = ("fault.plan", "fault.revert", "probe.stop", "probe.observe", "run.end", "node.stop", "node.lift", "x", "")
probes = st.fixed_dictionaries({}, optional={
    "name": values, "kind": st.sampled_from(["http", "tcp", "command", "process"]) | values, "spec": values,
    "measure": values, "window_s": values, "interval_ms": values, "timeout_ms": values, "stable_s": values,
    "p99_max_ms": values, "injection": values, "fault": st.sampled_from(sorted(KINDS)) | values, "duration_s": values,
    "injected_lo_ns": values, "injected_hi_ns": values, "reverted_ns": values, "wait_s": values, "argv": values,
})  # fmt: skip


@quick
@example("fault.plan", b'{"fault": "resource.cpu", "duration_s": "nan"}')
@example("fault.plan", b'{"fault": "resource.cpu", "duration_s": 1e308}')
@example("probe.observe", b'{"name": "x", "measure": "p50_ms", "window_s": "x"}')
@given(st.sampled_from(OTHERS), probes.map(msgspec.json.encode) | bodies | st.binary(max_size=40))
def test_every_order_is_answered_and_none_of_these_begins_anything(kind: str, body: bytes) -> None:
    result, records = answered(kind, body)
    assert "broke" not in result.message
    assert not records


@quick
@given(st.sampled_from(["probe.start", "probe.recovery", "workload.run"]), probes.map(msgspec.json.encode))
def test_malformed_measurements_break_nothing(kind: str, body: bytes) -> None:
    result, records = answered(kind, body)
    assert "broke" not in result.message
    assert not records
