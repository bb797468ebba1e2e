"""What is particular to `file.*`, beside the contract that all faults keep: the files, and who has them open."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from agent.faults import registry
from agent.faults.file_fault import Operation
from tests.chaos.case import wait_until
from tests.chaos.subject.file import content, missing, mounted
from tests.contract.file_rig import planned, put_in_force, servers

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing() or "there"), pytest.mark.usefixtures("clean")]
EXERCISE = Path(__file__).parent / "file_exercise.py"


def exercised(folder: Path) -> dict[str, Any]:
    return json.loads(subprocess.check_output([sys.executable, str(EXERCISE), str(folder)], timeout=100))


async def test_what_is_not_hit_works_as_in_a_plain_directory(place: Path, tmp_path: Path) -> None:
    fault, effect = planned("file.io_error", place, *get_args(Operation), names=["never.*"])
    await put_in_force(fault, effect)
    (place / "fresh").mkdir()
    for folder in (place.parent, place / "fresh", tmp_path):
        folder.chmod(0o755)
    through = await asyncio.to_thread(exercised, place / "fresh")
    await fault.revert(effect)
    plain = await asyncio.to_thread(exercised, tmp_path)
    differing = {name: (through[name], plain[name]) for name in plain if through[name] != plain[name]}
    shutil.rmtree(tmp_path, ignore_errors=True)
    assert not differing


@pytest.mark.parametrize("operation", get_args(Operation))
async def test_every_operation_can_fail_and_take_long(place: Path, operation: str) -> None:
    for kind, rule in (("file.io_error", {"errno": "EROFS"}), ("file.io_slow", {"delay_ms": 30.0})):
        before = content(place)
        fault, effect = planned(kind, place, operation, **rule)
        await put_in_force(fault, effect)
        await fault.revert(effect)
        assert content(place) == before


async def test_the_target_gets_the_error_and_the_file_underneath_stays_whole(place: Path) -> None:
    fault, effect = planned("file.io_error", place, "fsync", "create", errno="ENOSPC", names=["*.wal"])
    await put_in_force(fault, effect)
    (place / "other").write_text("fine")
    with pytest.raises(OSError, match="No space left") as caught:
        (place / "sub" / "0001.wal").touch()
    assert caught.value.errno == errno.ENOSPC
    with (place / "other").open("a") as file:
        file.write(", still")
        file.flush()
        os.fsync(file.fileno())
    await fault.revert(effect)
    assert sorted(path.name for path in place.rglob("*")) == ["kept", "more", "other", "sub"]
    assert (place / "other").read_text() == "fine, still"


async def test_a_read_only_disk_is_read(place: Path) -> None:
    fault, effect = planned("file.io_error", place, "open_write", "create", errno="EROFS")
    await put_in_force(fault, effect)
    assert (place / "kept").read_bytes()
    with pytest.raises(OSError, match="Read-only"):
        (place / "kept").open("r+b")
    with pytest.raises(OSError, match="Read-only"):
        (place / "new").touch()
    await fault.revert(effect)
    (place / "kept").open("r+b").close()


async def test_a_fraction_hits_that_share(place: Path) -> None:
    fault, effect = planned("file.io_error", place, "read", fraction=0.3)
    await put_in_force(fault, effect)
    failed = 0
    with (place / "kept").open("rb", buffering=0) as file:
        for _ in range(600):
            try:
                os.pread(file.fileno(), 4, 0)
            except OSError:
                failed += 1
    await fault.revert(effect)
    assert 120 <= failed <= 240


async def test_files_opened_before_go_on_and_files_opened_meanwhile_outlive_the_fault(place: Path) -> None:
    with (place / "kept").open("r+b", buffering=0) as before:
        fault, effect = planned("file.io_error", place, "write")
        await put_in_force(fault, effect)
        before.write(b"KEPT")
        with (place / "kept").open("r+b", buffering=0) as meanwhile:
            with pytest.raises(OSError, match="Input/output error"):
                meanwhile.write(b"no")
            await fault.revert(effect)
            assert not mounted(place)
            assert fault.residue(effect) == []
            assert len(servers()) == 1
            meanwhile.write(b"now")
            assert before.read() == b""
            before.seek(0)
            assert before.read() == b"nowT"
    assert (place / "kept").read_text() == "nowT"


async def test_locks_hold_between_those_who_come_through_it_and_those_who_do_not(place: Path) -> None:
    with (place / "kept").open("r+b") as before:
        fault, effect = planned("file.io_slow", place, "rename", delay_ms=10.0)
        await put_in_force(fault, effect)
        fcntl.flock(before, fcntl.LOCK_EX)
        with (place / "kept").open("r+b") as through:
            with pytest.raises(BlockingIOError):
                fcntl.flock(through, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(before, fcntl.LOCK_UN)
            fcntl.flock(through, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await fault.revert(effect)


@pytest.mark.parametrize("killed", ["server", "holder"])
async def test_sigkill_of_one_makes_the_other_give_the_directory_back(place: Path, killed: str) -> None:
    before = content(place)
    fault, effect = planned("file.io_error", place, "read")
    await put_in_force(fault, effect)
    os.kill(effect.facts[killed]["pid"], 9)
    await asyncio.to_thread(wait_until, lambda: not mounted(place), 2.0)
    assert content(place) == before
    await fault.revert(effect)
    assert fault.residue(effect) == []


async def test_sigkill_of_both_leaves_a_dead_mount_that_any_process_takes_away(place: Path) -> None:
    before = content(place)
    fault, effect = planned("file.io_error", place, "read")
    await put_in_force(fault, effect)
    for one in ("holder", "server"):
        os.kill(effect.facts[one]["pid"], signal.SIGSTOP)  # neither sees the other's end
    for one in ("server", "holder"):
        os.kill(effect.facts[one]["pid"], 9)
    await asyncio.to_thread(wait_until, lambda: "not connected" in str(content(place)), 2.0)
    assert "still mounted" in " ".join(fault.residue(effect))
    assert f"umount --lazy {place}" in fault.remedy(effect)
    await registry.all_faults()["file.io_error"].revert(effect)
    assert content(place) == before
    await fault.revert(effect)
    assert fault.residue(effect) == []


async def test_a_server_that_hangs_is_taken_out_of_the_way(place: Path) -> None:
    before = content(place)
    fault, effect = planned("file.io_error", place, "read")
    await put_in_force(fault, effect)
    os.kill(effect.facts["server"]["pid"], signal.SIGSTOP)
    started = time.monotonic()
    await fault.revert(effect)
    assert time.monotonic() - started < 3
    assert fault.residue(effect) == []
    assert content(place) == before


async def test_a_mount_of_somebody_else_is_never_detached(place: Path) -> None:
    fault, effect = planned("file.io_error", place, "fsync")
    await put_in_force(fault, effect)
    below = place / "sub"
    await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "theirs", str(below)], check=True)
    try:
        await fault.revert(effect)
        assert "theirs" in str(mounted(below))
        assert "theirs is mounted on" in " ".join(fault.residue(effect))
        with (place / "kept").open("ab") as file:
            os.fsync(file.fileno())  # the fault itself is over
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(below)], check=True)
    await asyncio.to_thread(wait_until, lambda: not mounted(place), 2.0)  # the server was waiting for that
    assert fault.residue(effect) == []


async def test_waits_are_side_by_side_and_end_with_the_fault(place: Path) -> None:
    fault, effect = planned("file.io_slow", place, "read", delay_ms=250.0)
    await put_in_force(fault, effect)

    def read(at: float) -> None:
        (place / "kept").read_bytes()
        took.append(time.monotonic() - at)

    took: list[float] = []
    readers = [threading.Thread(target=read, args=(time.monotonic(),)) for _ in range(20)]
    for reader in readers:
        reader.start()
    await asyncio.gather(*(asyncio.to_thread(reader.join) for reader in readers))
    assert 0.25 <= min(took) <= max(took) < 2.0
    await fault.revert(effect)
    fault, effect = planned("file.io_slow", place, "read", delay_ms=60_000.0)
    fault.prepare(effect)
    await fault.inject(effect)
    took.clear()
    late = threading.Thread(target=read, args=(time.monotonic(),))
    late.start()
    await asyncio.sleep(0.2)
    await fault.revert(effect)
    await asyncio.to_thread(late.join)
    assert 0.2 <= took[0] < 2.0
