"""The journal: whole lines or none, whatever was torn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.faults.base import Effect, Undo
from agent.journal import Journal, Record, Step
from agent.undo import record
from protos.error import TransientError


def effect(number: int) -> Effect:
    return Effect(
        id=f"effect{number}", fault="resource.cpu", resource="node:cpu", description=f"load {number}", undo=Undo.KERNEL,
        facts={"holder": {"pid": 1, "start": 2, "name": "x\ny"}}, boot_id="boot", deadline_ns=5,
    )  # fmt: skip


def test_what_was_begun_and_not_ended_is_in_force(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(4):
        record(journal, "intent", effect(number), "agent")
    for number, step in enumerate(("reverted", "failed", "injected")):
        record(journal, step, effect(number), "agent")  # type: ignore[arg-type]
    assert [one.id for one in Journal(tmp_path).in_force()] == ["effect2", "effect3"]


def test_the_last_record_of_an_effect_counts(tmp_path: Path) -> None:
    journal, one = Journal(tmp_path), effect(1)
    record(journal, "intent", one, "agent")
    one.facts["held"] = [4711]
    record(journal, "injected", one, "agent")
    assert journal.in_force()[0].facts["held"] == [4711]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(cut=st.integers(min_value=0, max_value=2000), junk=st.binary(max_size=40))
def test_a_torn_end_costs_no_whole_record(tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder)
    record(journal, "intent", effect(1), "agent")
    whole = (folder / "journal").stat().st_size
    record(journal, "intent", effect(2), "agent")
    with (folder / "journal").open("r+b") as file:
        file.truncate(max(whole, (folder / "journal").stat().st_size - cut))
        file.seek(0, os.SEEK_END)
        file.write(junk)
    later = Journal(folder)
    record(later, "intent", effect(3), "guardian")
    ids = [one.effect.id for one in later.records()[0]]
    assert ids[0] == "effect1"
    assert ids[-1] == "effect3"
    journal.close()
    later.close()


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    record(journal, "intent", effect(1), "agent")
    path = tmp_path / "journal"
    path.write_bytes(path.read_bytes().replace(b"load 1", b"load 7"))
    records, torn = journal.records()
    assert (records, torn) == ([], 1)


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_line(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from agent.journal import Journal
from agent.undo import record
from protos.error import TransientError
sys.path.insert(0, sys.argv[2])
from tests.unit.test_journal import effect
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
record(journal, "intent", effect(1), "agent")
size = (Path(sys.argv[1]) / "journal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, size + 40))
try:
    record(journal, "intent", effect(2), "agent")
except TransientError as error:
    print(error)
print(len(journal.in_force()), journal.records()[1])
"""
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), root], capture_output=True, text=True, check=True, cwd=root
    )
    assert "free space on that disk" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "1 0"


def test_a_journal_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TransientError, match="nothing can be injected"):
        Journal(tmp_path / "file")


def test_compaction_keeps_what_is_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.journal._COMPACT_BYTES", 10)
    journal, step = Journal(tmp_path), "intent"
    record(journal, step, effect(1), "agent")  # type: ignore[arg-type]
    journal.compact()
    assert len(journal.in_force()) == 1
    record(journal, "reverted", effect(1), "agent")
    journal.compact()
    assert journal.records() == ([], 0)
    assert (tmp_path / "journal.old").exists()


def test_who_has_the_old_file_open_goes_over_to_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, guardian = Journal(tmp_path), Journal(tmp_path)
    record(journal, "intent", effect(1), "agent")
    record(journal, "intent", effect(2), "agent")
    record(journal, "reverted", effect(1), "agent")
    monkeypatch.setattr("agent.journal._COMPACT_BYTES", 10)
    journal.compact()
    assert [one.effect.id for one in guardian.records()[0]] == ["effect2"]
    record(guardian, "reverted", effect(2), "guardian")
    assert journal.in_force() == []


def test_every_step_can_be_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    steps: list[Step] = ["intent", "injected", "reverted", "failed", "stranded"]
    for step in steps:
        journal.append(Record(step=step, at_ns=1, wall_ns=2, by="agent", effect=effect(1), note="n"))
    assert [one.step for one in journal.records()[0]] == steps
