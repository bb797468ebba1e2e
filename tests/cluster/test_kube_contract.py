"""The contract of every fault (`tests.contract.test_fault_contract`), over those that need a cluster: a real one."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from agent.faults import registry
from agent.faults.base import Undo
from tests.chaos import case as cases
from tests.contract import test_fault_contract as contract

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("faulted")]
KINDS = cases.at_home("cluster")
OF_ALL = (
    contract.test_plan_touches_nothing_and_says_what_it_would_do,
    contract.test_a_confirmed_receipt_brackets_the_instant,
    contract.test_a_target_that_is_gone_is_no_obstacle_to_revert,
    contract.test_a_prepared_effect_that_never_took_hold_reverts,
)
OF_UNDONE = (
    contract.test_revert_restores_the_exact_state_and_may_be_repeated,
    contract.test_revert_works_in_a_fresh_process_from_the_journal_alone,
    contract.test_the_deadline_ends_the_effect_without_the_agent,
)
CHECKS = [
    pytest.param(kind, check, id=f"{kind}-{check.__name__.removeprefix('test_')}")
    for kind in KINDS
    for check in (OF_ALL if registry.all_faults()[kind].undo is Undo.SELF_HEALING else (*OF_ALL, *OF_UNDONE))
]


@pytest.mark.parametrize(("kind", "check"), CHECKS)
async def test_contract(kind: str, check: Any, tmp_path: Path) -> None:
    with cases.case(kind) as made:
        given = {"case": made, "tmp_path": tmp_path}
        answer = check(**{name: given[name] for name in inspect.signature(check).parameters})
        if inspect.isawaitable(answer):
            await answer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", contract.MALFORMED)
def test_a_malformed_spec_is_refused_in_words(kind: str, spec: dict[str, Any]) -> None:
    contract.test_a_malformed_spec_is_refused_in_words(kind, spec)
