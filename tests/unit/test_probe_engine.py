"""The engine on a virtual clock: schedule, bounds, batches, answers."""

from __future__ import annotations

import asyncio
import random
from typing import Any, ClassVar

import pytest

from agent.probes import registry
from agent.probes.base import ProbeSpec
from agent.probes.engine import ProbeEngine
from protos.error import ProbeError, RefusedError, SpecError
from protos.recovery import Code
from tests.unit import virtual_time
from tests.unit.virtual_time import VirtualLoop

SECOND_NS = 1_000_000_000


class ScriptedSpec(ProbeSpec):
    down_s: list[float] = []  # noqa: RUF012 msgspec copies it
    mode: str = "refuse"
    latency_s: float = 0.001


class ScriptedProbe:
    """Down from down_s[0] to down_s[1] after opening: refuses, hangs, or breaks."""

    kind: ClassVar[str] = "scripted"
    spec_type: ClassVar[type[ProbeSpec]] = ScriptedSpec

    def __init__(self, spec: ScriptedSpec) -> None:
        self._spec = spec
        self._opened_s = 0.0

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        self._opened_s = asyncio.get_running_loop().time()

    async def attempt(self, timeout_s: float) -> Code:
        age_s = asyncio.get_running_loop().time() - self._opened_s
        down = bool(self._spec.down_s) and self._spec.down_s[0] <= age_s < self._spec.down_s[1]
        if down and self._spec.mode == "break":
            raise RuntimeError("a defect of the probe")
        if down and self._spec.mode == "hang":
            await asyncio.sleep(timeout_s)
            return Code.TIMEOUT
        await asyncio.sleep(0 if down else self._spec.latency_s)
        return Code.REFUSED if down else Code.OK

    async def close(self) -> None:
        pass


class Kept:
    """A sink that checks that batches are contiguous."""

    def __init__(self) -> None:
        self.due: dict[str, list[int]] = {}
        self.code: dict[str, list[int]] = {}
        self.start: dict[str, list[int]] = {}

    def __call__(self, run_id: str, name: str, first_index: int, due: Any, start: Any, done: Any, code: Any) -> None:
        assert len(due) == len(start) == len(done) == len(code) > 0
        assert first_index == len(self.due.setdefault(name, []))
        self.due[name] += due
        self.code.setdefault(name, []).extend(code)
        self.start.setdefault(name, []).extend(start)


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.KINDS, "scripted", ScriptedProbe)


def engine(sink: Any = None, **more: Any) -> tuple[ProbeEngine, VirtualLoop]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return ProbeEngine(sink=sink or Kept(), clock_ns=loop.clock_ns, rng=random.Random(1), **more), loop


def test_every_due_time_has_one_attempt_and_all_reach_the_sink() -> None:
    async def scenario() -> None:
        kept = Kept()
        probes, _ = engine(kept)
        started_ns = await probes.start("r", "a", "scripted", {}, interval_ms=10)
        await probes.start("r", "b", "scripted", {}, interval_ms=250)
        await asyncio.sleep(2.0)
        counts = await probes.stop("r")
        assert counts == {"a": len(kept.due["a"]), "b": len(kept.due["b"])}
        assert counts["a"] in (199, 200)
        assert counts["b"] == 8
        assert kept.due["a"] == [started_ns + k * 10_000_000 for k in range(counts["a"])]
        assert max(s - d for s, d in zip(kept.start["a"], kept.due["a"], strict=True)) <= 20_000
        assert probes.runs() == set()
        await probes.close()

    virtual_time.run(scenario())


def test_a_service_that_hangs_does_not_slow_the_schedule_and_overruns_are_kept() -> None:
    async def scenario() -> None:
        kept = Kept()
        probes, _ = engine(kept, in_flight_max=20)
        await probes.start("r", "a", "scripted", {"down_s": [0, 9], "mode": "hang"}, interval_ms=10, timeout_ms=500)
        await asyncio.sleep(1.7)  # a batch leaves while attempts hang
        counts = await probes.stop("r", "a")
        assert counts["a"] in (169, 170)
        assert set(kept.code["a"]) == {Code.TIMEOUT, Code.OVERRUN}
        assert kept.code["a"][:20] == [Code.TIMEOUT] * 20
        assert kept.code["a"][20:50] == [Code.OVERRUN] * 30
        await probes.close()

    virtual_time.run(scenario())


def test_what_the_agent_slept_through_is_an_overrun_not_a_burst() -> None:
    async def scenario() -> None:
        kept = Kept()
        probes, loop = engine(kept)
        await probes.start("r", "a", "scripted", {}, interval_ms=10, timeout_ms=100)
        await asyncio.sleep(0.5)
        loop.freeze(3.0)
        await asyncio.sleep(0.5)
        await probes.stop("r")
        assert 285 <= kept.code["a"].count(Code.OVERRUN) <= 292
        rows = zip(kept.due["a"], kept.start["a"], kept.code["a"], strict=True)
        assert max(start - due for due, start, code in rows if code != Code.OVERRUN) <= 100_000_000
        assert kept.due["a"] == list(range(kept.due["a"][0], kept.due["a"][-1] + 1, 10_000_000))
        await probes.close()

    virtual_time.run(scenario())


def test_a_defect_of_the_probe_is_no_data() -> None:
    async def scenario() -> None:
        kept = Kept()
        probes, _ = engine(kept)
        await probes.start("r", "a", "scripted", {"down_s": [0, 9], "mode": "break"}, interval_ms=100)
        await asyncio.sleep(1.0)
        with pytest.raises(ProbeError, match="no attempt gave a result"):
            probes.observe("r", "a", "success_fraction", 5.0)
        await probes.stop("r")
        assert set(kept.code["a"]) == {Code.ERROR}
        await probes.close()

    virtual_time.run(scenario())


def test_observations() -> None:
    async def scenario() -> None:
        probes, _ = engine()
        await probes.start("r", "a", "scripted", {"down_s": [1, 2], "latency_s": 0.004}, interval_ms=10)
        await asyncio.sleep(1.995)
        assert probes.observe("r", "a", "success_fraction", 0.5) == {"value": 0.0, "samples": 50}
        await asyncio.sleep(0.5)
        assert probes.observe("r", "a", "success_fraction", 1.0)["value"] == pytest.approx(0.5, abs=0.03)
        assert probes.observe("r", "a", "p50_ms", 0.4)["value"] == pytest.approx(4.0, abs=0.1)
        assert probes.observe("r", "a", "max_ms", 0.4)["value"] == pytest.approx(4.0, abs=0.1)
        assert probes.observe("r", "a", "rate_s", 1.0)["value"] == pytest.approx(100, abs=1)
        with pytest.raises(SpecError, match=r"(?s)measure.*window_s"):
            probes.observe("r", "a", "mean", 0)
        with pytest.raises(ProbeError, match=r"no probe 'b'.*it has: a"):
            probes.observe("r", "b", "p50_ms", 1)
        await probes.close()

    virtual_time.run(scenario())


@pytest.mark.parametrize("mode", ["refuse", "hang"])
def test_recovery_answers_as_soon_as_the_probe_is_stable(mode: str) -> None:
    async def scenario() -> None:
        probes, loop = engine()
        spec = {"down_s": [2.0, 3.5], "mode": mode}
        await probes.start("r", "a", "scripted", spec, interval_ms=10, timeout_ms=300, stable_s=1.0)
        began_s = loop.time()
        await asyncio.sleep(2.0)
        at_ns = loop.clock_ns()
        answer = await probes.recovery("r", "a", injected_lo_ns=at_ns, injected_hi_ns=at_ns)
        assert loop.time() - began_s == pytest.approx(4.5, abs=0.35)
        assert answer["recovered"]
        assert answer["lo_s"] <= 1.5 <= answer["hi_s"]
        assert answer["value_s"] == pytest.approx(1.5, abs=0.011)
        assert answer["flaps"] == 0
        assert set(answer["outages"][0]) == {"start_lo_ns", "start_hi_ns", "end_lo_ns", "end_hi_ns"}
        await probes.close()

    virtual_time.run(scenario())


def test_recovery_gives_up_after_its_wait() -> None:
    async def scenario() -> None:
        probes, loop = engine()
        await probes.start("r", "a", "scripted", {"down_s": [1, 99]}, interval_ms=50, stable_s=1.0)
        await asyncio.sleep(1.0)
        at_ns = loop.clock_ns()
        answer = await probes.recovery("r", "a", injected_lo_ns=at_ns, injected_hi_ns=at_ns, wait_s=4.0)
        assert (answer["recovered"], answer["value_s"], answer["hi_s"]) == (False, None, None)
        assert answer["lo_s"] == pytest.approx(3.95, abs=0.1)
        assert answer["outages"][0]["end_hi_ns"] is None
        await probes.close()

    virtual_time.run(scenario())


def test_memory_is_bounded_and_what_is_gone_is_not_guessed() -> None:
    async def scenario() -> None:
        kept = Kept()
        probes, loop = engine(kept, kept_max=5_000)
        await probes.start("r", "a", "scripted", {}, interval_ms=10)
        at_ns = loop.clock_ns() + SECOND_NS
        await asyncio.sleep(100.0)
        with pytest.raises(ProbeError, match="no longer kept"):
            await probes.recovery("r", "a", injected_lo_ns=at_ns, injected_hi_ns=at_ns)
        counts = await probes.stop("r")
        assert counts["a"] == len(kept.due["a"]) == len(set(kept.due["a"]))
        await probes.close()

    virtual_time.run(scenario())


def test_bad_arguments_are_named_all_at_once() -> None:
    async def scenario() -> None:
        probes, _ = engine()
        with pytest.raises(SpecError) as caught:
            await probes.start(
                "r", "", "tcp", {"port": "x", "more": 1}, interval_ms=0, timeout_ms=True, stable_s=-1, p99_max_ms=0
            )
        places = [problem.where for problem in caught.value.problems]
        assert places[:5] == ["name", "interval_ms", "timeout_ms", "stable_s", "p99_max_ms"]
        assert sorted(place.rpartition(".")[2] for place in places[5:]) == ["host", "more", "port"]
        await probes.start("r", "a", "scripted", {})
        with pytest.raises(RefusedError, match="choose another name"):
            await probes.start("r", "a", "scripted", {})
        with pytest.raises(RefusedError, match="policy does not allow"):
            await probes.start("r", "b", "command", {"argv": ["true"]})
        assert await probes.stop("other run") == {}
        await probes.close()

    virtual_time.run(scenario())


def test_a_probe_that_is_stopped_while_it_opens_never_runs() -> None:
    class Slow:
        kind = "slow"
        closed = False

        async def open(self) -> None:
            await asyncio.sleep(0.05)

        async def attempt(self, timeout_s: float) -> Code:
            raise AssertionError(timeout_s)

        async def close(self) -> None:
            Slow.closed = True

    async def body() -> None:
        engine = ProbeEngine(sink=lambda *_: None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("agent.probes.registry.build", lambda *_: Slow())
            starting = asyncio.ensure_future(engine.start("run", "p", "slow", {}))
            await asyncio.sleep(0.01)
            await engine.stop("run")
            with pytest.raises(RefusedError, match="stopped while it was being opened"):
                await starting
        assert engine.runs() == set()
        assert Slow.closed

    asyncio.run(body())
