"""The contract of `agent.faults.base`, over every fault."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.faults import registry
from agent.faults.base import Effect, Undo
from agent.guardian import Guardian
from agent.journal import Journal
from agent.system import proc
from agent.undo import record
from protos.error import SpecError
from tests.chaos import case as cases

ALL = sorted(registry.all_faults())
KINDS = cases.at_home("contract")  # those that need a cluster: tests/cluster/test_kube_contract.py
UNDONE = [kind for kind in KINDS if registry.all_faults()[kind].undo is not Undo.SELF_HEALING]
MALFORMED = ({"surprise": 1}, {"pid": "x", "peers": 3, "load_fraction": "all"})


@pytest.fixture(autouse=True)
def _marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLACKSTART_TEST", str(os.getpid()))


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Iterator[cases.Case]:
    if reason := cases.missing(request.param):
        pytest.skip(f"{request.param}: {reason}")
    with cases.case(request.param) as made:
        yield made


every = pytest.mark.parametrize("case", KINDS, indirect=True)
undone = pytest.mark.parametrize("case", UNDONE, indirect=True)


def planned(made: cases.Case, duration_s: float = 20.0) -> tuple[Any, Effect]:
    faults = registry.all_faults()
    (effect,) = registry.plan(faults, made.kind, made.spec)
    effect.boot_id = proc.boot_id()
    effect.deadline_ns = time.monotonic_ns() + int(duration_s * 1e9)
    return faults[made.kind], effect


async def put_in_force(fault: Any, effect: Effect) -> Any:
    fault.prepare(effect)
    injected = await fault.inject(effect)
    return await fault.observe(effect, injected)


@every
def test_plan_touches_nothing_and_says_what_it_would_do(case: cases.Case) -> None:
    before = case.fingerprint()
    _, effect = planned(case)
    assert case.fingerprint() == before
    assert effect.description
    assert effect.resource
    assert msgspec.json.decode(msgspec.json.encode(effect), type=Effect) == effect


@every
async def test_a_confirmed_receipt_brackets_the_instant(case: cases.Case) -> None:
    fault, effect = planned(case)
    asked_ns = time.monotonic_ns()
    receipt = await put_in_force(fault, effect)
    await fault.revert(effect)
    assert receipt.confirmed, receipt.text
    assert asked_ns < receipt.lo_ns <= receipt.hi_ns < time.monotonic_ns()


@undone
async def test_revert_restores_the_exact_state_and_may_be_repeated(case: cases.Case) -> None:
    before = case.fingerprint()
    fault, effect = planned(case)
    await put_in_force(fault, effect)
    assert case.in_force()
    assert fault.residue(effect), "an effect in force must show in the audit"
    await fault.revert(effect)
    assert case.fingerprint() == before
    await fault.revert(effect)
    assert case.fingerprint() == before
    assert fault.residue(effect) == []


@undone
async def test_revert_works_in_a_fresh_process_from_the_journal_alone(case: cases.Case, tmp_path: Path) -> None:
    before = case.fingerprint()
    fault, effect = planned(case)
    journal = Journal(tmp_path)
    fault.prepare(effect)
    record(journal, "intent", effect, "test")
    await fault.inject(effect)
    assert case.in_force()
    command = [sys.executable, "-m", "agent", "doctor", "--clean", "--json", "--state", str(tmp_path)]
    answer = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    (cleaned,) = msgspec.json.decode(answer.stdout)["cleaned"]
    assert (cleaned["id"], cleaned["state"], cleaned["residue"]) == (effect.id, "reverted", [])
    assert not case.in_force()
    assert journal.in_force() == []
    await fault.revert(effect)  # reaps the holder, which is this process's child
    assert case.fingerprint() == before


@undone
async def test_the_deadline_ends_the_effect_without_the_agent(case: cases.Case, tmp_path: Path) -> None:
    """By the kernel or the holder alone; what has neither, by the guardian."""
    before = case.fingerprint()
    fault, effect = planned(case, duration_s=2.0)
    fault.prepare(effect)
    journal, guardian = Journal(tmp_path), Guardian(tmp_path)
    if "holder" not in effect.facts:
        record(journal, "intent", effect, "test")
        await guardian.arm()
    await fault.inject(effect)
    await asyncio.to_thread(cases.wait_until, lambda: not case.in_force(), 5.0)
    late_s = (time.monotonic_ns() - effect.deadline_ns) / 1e9
    assert late_s <= 0.5
    if guardian._child is not None:
        guardian._child.kill()
        guardian._child.wait()
    guardian.stop()
    journal.close()
    await fault.revert(effect)
    assert case.fingerprint() == before


@every
async def test_a_target_that_is_gone_is_no_obstacle_to_revert(case: cases.Case) -> None:
    fault, effect = planned(case)
    if effect.undo is not Undo.SELF_HEALING:
        await put_in_force(fault, effect)
    case.vanish()
    await fault.revert(effect)
    assert fault.residue(effect) == []


@every
async def test_a_prepared_effect_that_never_took_hold_reverts(case: cases.Case) -> None:
    before = case.fingerprint()
    fault, effect = planned(case)
    fault.prepare(effect)
    await fault.revert(effect)
    assert case.fingerprint() == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", MALFORMED)
def test_a_malformed_spec_is_refused_in_words(kind: str, spec: dict[str, Any]) -> None:
    if reason := cases.missing(kind):
        pytest.skip(f"{kind}: {reason}")
    with pytest.raises(SpecError) as refusal:
        registry.plan(registry.all_faults(), kind, spec)
    assert kind in str(refusal.value)


@pytest.mark.parametrize("kind", ALL)
def test_every_fault_has_a_page_and_documented_fields(kind: str) -> None:
    fault = registry.all_faults()[kind]
    assert kind == fault.kind
    assert all(text.endswith(".") for text in (fault.page.does, fault.page.proof, fault.page.ends, fault.page.limits))
    msgspec.convert(fault.page.example, fault.spec)
    for name, schema in msgspec.json.schema(fault.spec)["$defs"][fault.spec.__name__]["properties"].items():
        assert schema.get("description"), f"{kind}: field {name} has no description"


def test_every_fault_has_a_case() -> None:
    assert sorted(cases.SUBJECTS) == ALL
