"""Receipts of `container.*` hold what the engine itself told, beside what the kernel shows."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agent.faults import container_target
from tests.chaos import case as cases
from tests.contract.test_fault_contract import planned, put_in_force

EVENTS = {
    "container.kill": "die", "container.network_disconnect": "disconnect", "container.pause": "pause",
    "container.restart": "restart", "container.stop": "die",
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(EVENTS))
async def test_a_receipt_names_the_engines_own_event(kind: str) -> None:
    if reason := cases.missing(kind):
        pytest.skip(f"{kind}: {reason}")
    with cases.case(kind) as made:
        fault, effect = planned(made)
        receipt = await put_in_force(fault, effect)
        await fault.revert(effect)
    assert receipt.confirmed, receipt.text
    found = re.search(rf"the engine's event {EVENTS[kind]} came (\d+) ms after the order", receipt.text)
    assert found, receipt.text
    assert int(found[1]) < 30_000


async def test_what_the_engine_did_not_tell_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = "container.pause"
    if reason := cases.missing(kind):
        pytest.skip(f"{kind}: {reason}")
    ours: Any = container_target.told
    monkeypatch.setattr(container_target, "told", lambda effect, injected, *_: ours(effect, injected, "destroy"))
    with cases.case(kind) as made:
        fault, effect = planned(made)
        receipt = await put_in_force(fault, effect)
        await fault.revert(effect)
    assert "the engine has told of no destroy within" in receipt.text
