"""What is particular to `pod.container_kill`, beside the contract that all faults keep."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from agent.faults import registry
from agent.faults.base import Effect
from agent.policy import Policy
from agent.system import pod, proc
from protos.error import RefusedError, SpecError
from tests.chaos import case as cases
from tests.chaos.subject import pod as subject

KIND = "pod.container_kill"


@pytest.fixture
def made() -> Any:
    if told := cases.missing(KIND):
        pytest.skip(told)
    with cases.case(KIND) as made:
        yield made


def planned(made: cases.Case, **more: Any) -> list[Effect]:
    effects = registry.plan(registry.all_faults(), KIND, made.spec | more)
    for one in effects:
        one.boot_id, one.deadline_ns = proc.boot_id(), time.monotonic_ns() + 20_000_000_000
    return effects


async def test_the_container_ends_and_neither_sandbox_nor_neighbour(made) -> None:
    fault = registry.all_faults()[KIND]
    (effect,) = planned(made)
    receipt = await fault.observe(effect, await fault.inject(effect))
    assert receipt.confirmed, receipt.text
    assert made.fingerprint() == {"holders": [], "others": [None, None], "alive": False}
    assert "container main of pod shop/" in effect.description


def test_each_container_but_the_sandbox_is_meant_where_none_is_named(made) -> None:
    names = sorted(one.description.split("container ")[1].split(" ")[0] for one in planned(made, container="*"))
    assert names == ["main", "side"]


def test_a_container_that_is_not_there_is_no_success(made) -> None:
    with pytest.raises(SpecError, match=r"spec\.container: no container other runs in pod"):
        planned(made, container="other")


@pytest.mark.parametrize("sandboxed", [False, True])
def test_what_has_a_containers_log_is_a_container_whatever_its_age(sandboxed) -> None:
    if told := cases.missing(KIND):
        pytest.skip(told)
    with contextlib.ExitStack() as stack:
        main, side, sandbox = (stack.enter_context(subject.sleeping()).pid for _ in range(3))
        stack.enter_context(subject.pod("shop", "odd", sandbox if sandboxed else None, main=main, side=side))
        (found,) = pod.find("shop", "odd")
        assert [(one.name, one.first.pid) for one in found.containers] == [("main", main), ("side", side)]
        assert found.sandbox.pid == (sandbox if sandboxed else main), "any of them is in the pod's network"


@pytest.mark.parametrize(
    ("more", "told"),
    [({"protected_namespaces": ["sh*"]}, "protected"), ({"namespaces": ["encode"]}, "encode")],
)
def test_the_nodes_policy_says_in_which_namespaces(made, more, told) -> None:
    (effect,) = planned(made)
    Policy(faults=["*"]).check(effect, 10.0, [])
    with pytest.raises(RefusedError, match=told):
        Policy(faults=["*"], **more).check(effect, 10.0, [])
