"""What is particular to `resource.*`, beside the contract of all faults: what the target itself comes to feel."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from agent.faults import registry
from agent.faults.base import Effect
from agent.system import mount, proc
from protos.error import SpecError
from tests.chaos import case as cases
from tests.chaos.subject import resource as subjects


def planned(kind: str, spec: dict[str, Any]) -> tuple[Any, Effect]:
    faults = registry.all_faults()
    (effect,) = registry.plan(faults, kind, spec)
    effect.boot_id, effect.deadline_ns = proc.boot_id(), time.monotonic_ns() + 20_000_000_000
    return faults[kind], effect


async def in_force(kind: str, spec: dict[str, Any]) -> tuple[Any, Effect, Any]:
    fault, effect = planned(kind, spec)
    fault.prepare(effect)
    return fault, effect, await fault.observe(effect, await fault.inject(effect))


def needs(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(reason), reason=reason or "can run")


async def test_a_target_without_descriptors_gets_emfile_and_opens_again_afterwards() -> None:
    with subjects.opener() as process:

        def opened() -> int:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            return int(cases.line(process))

        assert opened() == 0
        fault, effect, receipt = await in_force("resource.fd_exhaust", {"pid": process.pid, "leave": 2})
        answers = [opened() for _ in range(4)]
        await fault.revert(effect)
        assert receipt.confirmed
        assert answers == [0, 0, errno.EMFILE, errno.EMFILE]
        assert opened() == 0


async def test_a_limit_that_the_target_set_itself_is_left_alone() -> None:
    with subjects.opener() as process:
        fault, effect, _ = await in_force("resource.fd_exhaust", {"pid": process.pid})
        hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (333, hard))
        await fault.revert(effect)
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (333, hard)
        assert fault.residue(effect) == []


@needs(subjects.needs_root())
async def test_on_a_full_disk_others_cannot_write_and_then_can() -> None:
    with subjects.small_disk() as path:
        fault, effect, receipt = await in_force("resource.disk_fill", {"path": path, "leave_mb": 0})
        with pytest.raises(OSError, match="No space left"):
            (Path(path) / "segment").write_bytes(bytes(2 << 20))
        await fault.revert(effect)
        (Path(path) / "segment").write_bytes(bytes(2 << 20))
        assert receipt.confirmed
        assert "ENOSPC" in receipt.text


@needs(subjects.needs_root())
async def test_space_is_left_as_asked() -> None:
    with subjects.small_disk() as path:
        fault, effect, receipt = await in_force("resource.disk_fill", {"path": path, "leave_mb": 3})
        assert abs(mount.space(path).free - 3_000_000) < 200_000
        await fault.revert(effect)
        assert receipt.confirmed


@needs(subjects.needs_pids())
async def test_in_a_full_group_nothing_can_be_started() -> None:
    with subjects.grouped("pids", pids_max=30) as (process, group):
        fault, effect, receipt = await in_force("resource.pid_exhaust", {"cgroup_of": {"pid": process.pid}})
        assert (group / "pids.current").read_text().strip() == "30"
        await fault.revert(effect)
        await asyncio.to_thread(cases.wait_until, lambda: (group / "pids.current").read_text().strip() == "1", 2.0)
        assert receipt.confirmed, receipt.text


@needs(subjects.needs_root())
async def test_memory_counts_in_the_targets_group() -> None:
    with subjects.grouped("memory") as (process, group):
        spec = {"size_mb": 32, "cgroup_of": {"pid": process.pid}}
        fault, effect, receipt = await in_force("resource.memory", spec)
        used = int((group / "memory.usage_in_bytes").read_text())
        await fault.revert(effect)
        assert receipt.confirmed, receipt.text
        assert used > 30_000_000


@needs(subjects.needs_blkio())
async def test_processes_go_back_to_where_each_of_them_was() -> None:
    with subjects.grouped("blkio") as (process, group):
        before = Path(f"/proc/{process.pid}/cgroup").read_text()
        spec = {"pid": process.pid, "path": str(subjects.DISK), "write_bps": 1_000_000}
        fault, effect, receipt = await in_force("resource.io_throttle", spec)
        inside = Path(f"/proc/{process.pid}/cgroup").read_text()
        await fault.revert(effect)
        assert receipt.confirmed, receipt.text
        assert f"blackstart_{effect.id}" in inside
        assert Path(f"/proc/{process.pid}/cgroup").read_text() == before
        assert [one.name for one in group.iterdir() if one.is_dir()] == []


async def test_a_service_that_comes_back_is_killed_again() -> None:
    with cases.case("process.restart_loop") as made:
        fault, effect, receipt = await in_force(made.kind, made.spec)
        assert "came back and was killed again" in receipt.text, receipt.text
        await fault.revert(effect)
        pid_file = Path(made.spec["pid_file"])
        await asyncio.sleep(0.3)
        lasting = int(pid_file.read_text())
        await asyncio.sleep(0.5)
        assert int(pid_file.read_text()) == lasting, "nobody kills after the revert"


async def test_a_protected_name_is_never_hit_even_if_it_comes_to_match() -> None:
    with cases.case("process.restart_loop") as made:
        fault, effect = planned(made.kind, made.spec)
        effect.facts["protected_names"] = ["sl*"]
        fault.prepare(effect)
        with pytest.raises(Exception, match="gone before the first kill"):
            await fault.inject(effect)
        assert proc.identify(int(Path(made.spec["pid_file"]).read_text())) is not None


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("resource.disk_fill", {"path": "/no/such"}, "not a directory"),
        ("resource.inode_fill", {"path": "/no/such"}, "not a directory"),
        ("resource.memory", {"size_mb": 1, "leave_mb": 1e9}, "are to be left"),
        ("resource.io_throttle", {"pid": os.getpid(), "path": "/"}, "limits nothing"),
        ("resource.io_pressure", {"path": "/proc"}, "no block device"),
        ("process.restart_loop", {}, "exactly one of"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(kind: str, spec: dict[str, Any], said: str) -> None:
    if registry.all_faults()[kind].missing():
        pytest.skip(registry.all_faults()[kind].missing())
    with pytest.raises(SpecError, match=said):
        planned(kind, spec)


def test_a_file_without_a_name_is_gone_with_its_descriptor(tmp_path: Path) -> None:
    descriptor = mount.unlinked(str(tmp_path))
    assert subprocess.run(["ls", "-A", tmp_path], capture_output=True, check=True).stdout == b""
    os.close(descriptor)
