"""The journal, whatever became of its bytes: whole lines count, and what they say is in force is ended."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import undo
from agent.faults.base import Effect, Undo
from agent.journal import Journal, Record, Step
from agent.system import proc
from protos.error import TransientError

quick = settings(max_examples=120, deadline=None, derandomize=True)
STEPS: tuple[Step, ...] = ("intent", "injected", "reverted", "failed", "stranded")
histories = st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(STEPS)), max_size=12)


def record(name: str, step: Step, text: str = "") -> Record:
    effect = Effect(
        id=name, fault="test.fault", resource=name, description=f"{step} of {name}\n", undo=Undo.GUARDIAN,
        facts={"text": text}, boot_id=proc.boot_id(), deadline_ns=5,
    )  # fmt: skip
    return Record(step=step, at_ns=1, wall_ns=2, by="agent", effect=effect)


def open_ids(history: list[tuple[str, Step]]) -> list[str]:
    """The model: what has begun and not ended, in the order of its beginning."""
    found: dict[str, None] = {}
    for name, step in history:
        if step in ("reverted", "failed"):
            found.pop(name, None)
        else:
            found[name] = None
    return list(found)


@contextlib.contextmanager
def journal_of(content: bytes = b"") -> Iterator[Journal]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        Path(folder, "journal").write_bytes(content)
        opened = Journal(Path(folder))
        yield opened
        opened.close()


def written(history: list[tuple[str, Step]]) -> bytes:
    with journal_of() as journal:
        for name, step in history:
            journal.append(record(name, step))
        return journal._path.read_bytes()


def ids(journal: Journal) -> list[str]:
    return [effect.id for effect in journal.in_force()]


class Recorder:
    """A fault that only notes whom it reverted; *broken* ones raise, as a bug of ours would."""

    undo = Undo.GUARDIAN

    def __init__(self, broken: bool = False) -> None:
        self.reverted: list[str] = []
        self._broken = broken

    async def revert(self, effect: Effect) -> None:
        self.reverted.append(effect.id)
        if self._broken:
            raise ZeroDivisionError

    def residue(self, effect: Effect) -> list[str]:
        return []


def end_all(journal: Journal, fault: Recorder) -> None:
    faults: Any = {"test.fault": fault}
    asyncio.run(undo.revert_all(journal, faults, journal.in_force(), "test"))


@quick
@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"\0", b"\n", b" ", b"00000000 ", b"{}", b"ffffffff {}\n"])).map(b"".join)
)
def test_any_bytes_are_a_journal(content: bytes) -> None:
    with journal_of(content) as journal:
        records, torn = journal.records()
        assert len(records) + torn == len([line for line in content.split(b"\n") if line])
        journal.append(record("a", "intent"))
        assert "a" in ids(journal)


@quick
@given(histories)
def test_in_force_is_what_has_begun_and_not_ended(history: list[tuple[str, Step]]) -> None:
    with journal_of(written(history)) as journal:
        assert ids(journal) == open_ids(history)
        assert journal.records()[1] == 0


LONG: list[tuple[str, Step]] = [
    ("a", "intent"), ("b", "intent"), ("a", "injected"), ("b", "injected"), ("a", "reverted"), ("c", "intent"),
    ("b", "stranded"),
]  # fmt: skip


def test_cut_at_any_byte_it_holds_the_whole_lines_and_all_they_say_is_ended() -> None:
    content = written(LONG)
    lines = content.splitlines(keepends=True)
    ends = [sum(map(len, lines[: at + 1])) for at in range(len(lines))]
    for cut in range(len(content) + 1):
        whole = sum(end - 1 <= cut for end in ends)  # its newline is no part of a line's record
        with journal_of(content[:cut]) as journal:
            assert ids(journal) == open_ids(LONG[:whole])
            if cut % 7:
                continue
            fault = Recorder()
            end_all(journal, fault)
            assert fault.reverted == open_ids(LONG[:whole])
            assert ids(journal) == []


@quick
@given(histories, st.integers(0, 2**32), st.integers(1, 255))
def test_a_changed_byte_costs_no_line_but_its_own(history: list[tuple[str, Step]], where: int, mask: int) -> None:
    content = written(history)
    if not content:
        return
    at = where % len(content)
    changed = content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]
    start, hurt = 0, set()
    for number, line in enumerate(content.splitlines(keepends=True)):
        if start <= at < start + len(line):
            hurt = {number, number + 1} if at == start + len(line) - 1 else {number}
        start += len(line)
    with journal_of(changed) as journal:
        steps = [(row.effect.id, row.step) for row in journal.records()[0]]
        assert steps == [row for number, row in enumerate(history) if number not in hurt]


WORK = (*STEPS, "twice", "torn", "zeros", "junk", "compact")


@quick
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(WORK), st.booleans()), max_size=14))
def test_agent_and_guardian_write_in_turns_over_torn_ends_and_compaction(work: list[tuple[str, str, bool]]) -> None:
    history: list[tuple[str, Step]] = []
    with journal_of() as agent, pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.journal._COMPACT_BYTES", 1)
        guardian = Journal(agent._path.parent)
        for name, what, by_guardian in work:
            writer = guardian if by_guardian else agent
            if what in ("torn", "zeros", "junk"):
                line = agent._line(record(name, "intent"))
                tail = {"torn": line[: len(line) // 2], "zeros": b"\0" * 99, "junk": b"\xff}{ 7\n\n"}[what]
                with agent._path.open("ab") as file:
                    file.write(tail)
            elif what == "compact":
                writer.compact()
                history = [(one, "intent") for one in open_ids(history)]
            else:
                step: Any = "injected" if what == "twice" else what
                for _ in range(1 + (what == "twice")):
                    writer.append(record(name, step))
                    history.append((name, step))
            assert sorted(ids(agent)) == sorted(ids(guardian)) == sorted(open_ids(history))
        guardian.close()


def test_a_huge_line_and_a_huge_hole_cost_nothing_else() -> None:
    for tail in (b"\0" * 5_000_000, b"f" * 5_000_000, b" " * 5_000_000, b"\n" * 1_000_000):
        with journal_of(written([("a", "intent")]) + tail) as journal:
            journal.append(record("b", "intent", "x" * 2_000_000))
            assert ids(journal) == ["a", "b"]
            assert len(journal.in_force()[1].facts["text"]) == 2_000_000


def test_what_is_nested_without_end_is_no_record() -> None:
    body = msgspec.json.encode(record("a", "intent")).replace(
        b'"text":""', b'"text":' + b"[" * 200_000 + b"]" * 200_000
    )
    with journal_of(b"%08x %b\n" % (zlib.crc32(body), body) + written([("b", "intent")])) as journal:
        assert ids(journal) == ["b"]


def test_what_names_no_effect_is_no_record() -> None:
    body = msgspec.json.encode(record("a", "intent")).replace(b'"id":"a",', b"")
    with journal_of(b"%08x %b\n" % (zlib.crc32(body), body) + written([("b", "intent")])) as journal:
        assert ids(journal) == ["b"]


def test_a_journal_that_was_removed_is_still_read_and_refuses_what_is_new() -> None:
    with journal_of(written([("a", "intent")])) as journal:
        journal._path.unlink()
        assert ids(journal) == ["a"], "the guardian must still know what to end"
        with pytest.raises(TransientError):
            journal.append(record("b", "intent"))


def test_a_full_disk_during_compaction_loses_nothing(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from agent import journal
from tests.property.test_hostile_journal import ids, record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal._COMPACT_BYTES = 1
opened = journal.Journal(Path(sys.argv[1]))
for name in "abc":
    opened.append(record(name, "intent"))
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    opened.compact()
except OSError:
    print(ids(opened), ids(journal.Journal(Path(sys.argv[1]))))
"""
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, cwd=root
    )
    assert ran.stdout.strip() == "['a', 'b', 'c'] ['a', 'b', 'c']"


def test_a_fault_that_breaks_keeps_no_other_in_force() -> None:
    chance = random.Random(7)
    with journal_of() as journal:
        for number in range(20):
            one = record(str(number), "intent")
            one.effect.fault = chance.choice(["test.fault", "test.broken", "of.another.version"])
            journal.append(one)
        good, bad = Recorder(), Recorder(broken=True)
        faults: Any = {"test.fault": good, "test.broken": bad}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("agent.undo._PAUSE_S", 0.0)
            asyncio.run(undo.revert_all(journal, faults, journal.in_force(), "test"))
        assert not set(good.reverted) & set(ids(journal))
        assert len(good.reverted) + len(set(bad.reverted)) < 20
        assert {effect.fault for effect in journal.in_force()} == {"test.broken", "of.another.version"}
