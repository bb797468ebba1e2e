"""The campaign's short form: a kill of every part for every fault, at a gate or at a random instant."""

from __future__ import annotations

import os

import pytest

from tests.chaos.campaign import Trial, attempt, trials

SEED = int(os.environ.get("BLACKSTART_CHAOS_SEED", "7"))


@pytest.mark.chaos
@pytest.mark.parametrize("trial", list(trials(30, SEED)), ids=str)
def test_every_effect_ends_on_time_and_leaves_nothing(trial: Trial) -> None:
    outcome = attempt(trial)
    assert outcome.good, f"{trial}: late {outcome.late_s} s, residue {outcome.residue}; seed {SEED}"
