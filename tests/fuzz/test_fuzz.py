"""Every fuzz target for some seconds, and two planted bugs that the fuzzer must find. `make fuzz` runs them longer."""

from __future__ import annotations

import importlib.util

import pytest

from tests.fuzz.campaign import run

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="install blackstart[fuzz]"),
]
SHORT = ("-runs=3000", "-max_total_time=4", "-seed=1")
NAMES = ("columns", "experiments", "journals", "orders", "packets", "policies", "specs", "stream")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_breaks(name: str) -> None:
    outcome = run(name, *SHORT, timeout_s=60)
    assert not outcome.crash, f"{outcome.crash}\nby {outcome.example!r}"
    assert outcome.executions >= 100
    assert outcome.reached > 20, "the code is not instrumented"


def test_every_target_is_run() -> None:
    from tests.fuzz import target

    assert sorted(target.TARGETS) == sorted(NAMES)


@pytest.mark.timeout(150)  # it ends when it has found it: how soon depends on the machine
@pytest.mark.parametrize(("name", "mutant"), [("journals", "checksum"), ("policies", "opt-in")])
def test_a_planted_bug_is_found(name: str, mutant: str) -> None:
    outcome = run(name, "-max_total_time=90", "-seed=1", environment={"BLACKSTART_FUZZ_MUTANT": mutant}, timeout_s=110)
    assert "AssertionError" in outcome.crash
    assert outcome.example
