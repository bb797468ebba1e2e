"""The campaign's short form: kills of every part for every fault; and proof that it notices a broken undo."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import agent
from tests.chaos.campaign import carried_out, trials

pytestmark = pytest.mark.alone
SEED = int(os.environ.get("BLACKSTART_CHAOS_SEED", "7"))
KILLS = 160
# What a careless change could break, one a mutant: (file, code, what it becomes).
MUTANTS = {
    "a revert that resumes nobody": [
        ("faults/process_pause.py", "process.send(one, signal.SIGCONT)", "pass"),
        ("faults/grip_stop.py", "process.send(one, signal.SIGCONT)", "pass"),
        ("faults/process_pause.py", "for one in _targets(effect) if proc.is_stopped(one)", "for one in ()"),
    ],
    "a guardian that does nothing": [
        ("guardian.py", 'await revert_all(journal, faults, due, "guardian")', "return"),
        ("faults/grip_stop.py", "process.send(one, signal.SIGCONT)", "pass"),
    ],
}  # fmt: skip


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_every_effect_ends_on_time_and_leaves_nothing() -> None:
    outcomes = list(carried_out(list(trials(KILLS, SEED)), workers=3))
    assert len(outcomes) == KILLS
    bad = [f"{one.trial}: late {one.late_s} s, residue {one.residue}" for one in outcomes if not one.good]
    assert not bad, f"seed {SEED}:\n" + "\n".join(bad)


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to lay a broken file over a good one in a namespace")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_fault_in_the_undo_path_makes_it_fail(name: str, tmp_path: Path) -> None:
    """The mutant is laid over the file for this campaign alone, in a mount namespace of its own."""
    assert agent.__file__
    home, mounts = Path(agent.__file__).parent, []
    changed: dict[str, str] = {}
    for file, code, becomes in MUTANTS[name]:
        text = changed.get(file) or (home / file).read_text(encoding="utf-8")
        assert code in text, f"{file} has changed: {code!r} is not in it"
        changed[file] = text.replace(code, becomes)
    for number, (file, text) in enumerate(changed.items()):
        broken = tmp_path / f"{number}.py"
        broken.write_text(text, encoding="utf-8")
        mounts.append(f"mount --bind {broken} {home / file}")
    # Holders do most of a guardian's work: few kills show that it does none.
    kills = 40 if "guardian" in name else 16
    options = f"--trials {kills} --workers 2 --kinds 'process.pause (sigstop)'"
    campaign = f"{sys.executable} -m tests.chaos.campaign {options}"
    script = " && ".join([*mounts, f"exec {campaign}"])
    unshare = shutil.which("unshare")
    assert unshare, "install util-linux"
    ran = subprocess.run(
        [unshare, "--mount", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=200
    )
    assert ran.returncode == 1, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert "BAD" in ran.stdout
