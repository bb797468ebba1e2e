"""Where `file.*` faults may stand: namespaces, directories that were replaced or taken, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent.policy import Policy
from agent.system import mountspace
from protos.error import FaultError, RefusedError, SpecError
from tests.chaos.subject.file import missing, mounted, namespace
from tests.contract.file_rig import planned, put_in_force

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing() or "there"), pytest.mark.usefixtures("clean")]


async def test_another_namespace_is_hit_and_ours_is_not(place: Path) -> None:
    with namespace() as process:
        fault, effect = planned("file.io_error", place, "read", mounts_of={"pid": process.pid})
        assert effect.touches.paths == []
        await put_in_force(fault, effect)
        assert mounted(place, process.pid)
        assert not mounted(place)
        assert (place / "kept").read_text() == "kept"
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"cat {place}/kept 2>&1\n".encode())
        process.stdin.flush()
        assert b"Input/output error" in process.stdout.readline()
        assert f"nsenter --target {process.pid} --mount umount" in fault.remedy(effect)
        await fault.revert(effect)
        assert not mounted(place, process.pid)
        link = place.parent / "link"
        link.symlink_to(place)
        with pytest.raises(SpecError, match="is a link"):
            planned("file.io_error", link, "read", mounts_of={"pid": process.pid})


async def test_a_namespace_made_meanwhile_keeps_a_copy_without_faults(place: Path) -> None:
    fault, effect = planned("file.io_error", place, "read")
    await put_in_force(fault, effect)
    with namespace() as process:
        assert mounted(place, process.pid)
        await fault.revert(effect)
        assert fault.residue(effect) == []
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"cat {place}/kept; echo\n".encode())
        process.stdin.flush()
        assert process.stdout.readline() == b"kept\n"


async def test_what_cannot_be_meant_is_refused(place: Path) -> None:
    with pytest.raises(SpecError, match="there is no"):
        planned("file.io_error", place / "none", "read")
    with pytest.raises(SpecError, match="is no directory"):
        planned("file.io_error", place / "kept", "read")
    with pytest.raises(SpecError, match="jitter_ms"):
        planned("file.io_slow", place, "read", delay_ms=1.0, jitter_ms=2.0)
    for needed in (sys.prefix, "/", "/proc"):
        with pytest.raises((RefusedError, SpecError), match=r"holds|length"):
            planned("file.io_error", Path(needed), "read")
    _, effect = planned("file.io_error", place, "read")
    with pytest.raises(RefusedError, match="protected"):
        Policy(faults=["*"], protected_paths=[str(place / "sub")]).check(effect, 1.0, [])


async def test_a_directory_under_a_fault_already_is_not_hit_twice(place: Path) -> None:
    first, effect = planned("file.io_error", place, "fsync")
    await put_in_force(first, effect)
    for path in (place / "sub", place):
        fault, second = planned("file.io_slow", path, "read", delay_ms=10.0)
        fault.prepare(second)
        with pytest.raises(FaultError, match="under a fault already"):
            await fault.inject(second)
        await fault.revert(second)
    assert len(mounted(place)) == 1
    await first.revert(effect)


async def test_a_directory_that_was_replaced_is_not_the_one_that_was_planned(place: Path) -> None:
    fault, effect = planned("file.io_error", place, "fsync")
    place.rename(place.parent / "old")
    place.mkdir()
    fault.prepare(effect)
    with pytest.raises(FaultError, match="not the directory that was planned"):
        await fault.inject(effect)
    await fault.revert(effect)
    assert not mounted(place)


def test_mountinfo_is_read_as_the_kernel_writes_it() -> None:
    line = r"40 22 0:36 / /a\040b rw,relatime shared:7 master:1 - fuse.blackstart blackstart_1 rw" + "\n"
    assert mountspace._parse(line) == (40, 22, "/a b", True, "fuse.blackstart", "blackstart_1")
