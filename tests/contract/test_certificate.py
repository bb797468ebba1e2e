"""The zero-residue certificate and the auditor, over what is really left."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import certificate
from agent.active import Active, Asked
from agent.auditor import Auditor
from agent.certificate import Certificates
from agent.faults.base import Effect, Touched, Undo
from agent.system import nodestate, proc
from tests.chaos import case as cases


def effect(**more: Any) -> Effect:
    return Effect(
        fault="process.pause", resource="r", description="a pause", undo=Undo.GUARDIAN, **{"facts": {}} | more
    )


@pytest.fixture
def stopped() -> Iterator[proc.Identity]:
    """A process that somebody has stopped and nobody resumes."""
    process = subprocess.Popen(["sleep", "60"])
    os.kill(process.pid, 19)
    identity = proc.identify(process.pid)
    assert identity is not None
    cases.wait_until(lambda: proc.is_stopped(identity), 2.0)
    yield identity
    process.kill()
    process.wait()


async def test_a_run_that_left_nothing_is_certified(tmp_path: Path) -> None:
    certificates = Certificates([tmp_path])
    await certificates.begin("run")
    paper = await certificates.end("run", [effect()], [])
    assert paper is not None
    assert paper["clean"]
    assert paper["taken_before_ns"] < paper["taken_after_ns"]
    assert {"mounts", "cgroups", "stopped processes", "files"} <= set(paper["checks"])
    assert await certificates.end("run", [], []) is None, "a certificate is given once"


async def test_a_process_that_stays_stopped_is_ours_if_we_touched_it(tmp_path: Path) -> None:
    certificates = Certificates([tmp_path])
    await certificates.begin("mine")
    await certificates.begin("other")
    process = await asyncio.to_thread(subprocess.Popen, ["sleep", "60"])
    try:
        os.kill(process.pid, 19)
        target = proc.identify(process.pid)
        assert target is not None
        await asyncio.to_thread(cases.wait_until, lambda: proc.is_stopped(target), 2.0)
        touched = effect(touches=Touched(processes=[target]))
        paper = await certificates.end("mine", [touched], [])
        other = await certificates.end("other", [effect()], [touched])
    finally:
        process.kill()
        process.wait()
    assert paper is not None
    assert other is not None
    assert not paper["clean"]
    assert f"pid {target.pid}" in paper["ours"][0]
    assert other["clean"]
    assert any(f"pid {target.pid}" in text for text in other["others"])


async def test_a_file_with_an_effects_id_is_ours(tmp_path: Path) -> None:
    certificates, one = Certificates([tmp_path]), effect()
    await certificates.begin("run")
    (tmp_path / f"left-{one.id}").touch()
    (tmp_path / "left-by-somebody-else").touch()
    paper = await certificates.end("run", [one], [])
    assert paper is not None
    assert paper["ours"] == [f"+ files: {tmp_path}/left-{one.id}"]
    assert f"+ files: {tmp_path}/left-by-somebody-else" in paper["others"]


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("nft"), reason="needs root and nftables")
async def test_a_table_left_in_a_namespace_is_ours(tmp_path: Path) -> None:
    script = "ip link set lo up; echo ready; exec sleep 60"
    process = await asyncio.to_thread(
        subprocess.Popen, ["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE
    )
    cases.line(process)
    try:
        network = f"/proc/{process.pid}/ns/net"
        one = effect(facts={"network": network, "inode": os.stat(network).st_ino})
        certificates = Certificates([tmp_path])
        await certificates.begin("run")
        await certificates.watch("run", [one])
        inside = ["nsenter", f"--net={network}", "nft", "add", "table", "inet", f"blackstart_{one.id}"]
        await asyncio.to_thread(subprocess.run, inside, check=True)
        paper = await certificates.end("run", [one], [])
    finally:
        cases.end(process)
    assert paper is not None
    assert paper["ours"] == [f"+ nft tables: table inet blackstart_{one.id}"]


def test_differences_compare_only_what_was_looked_at_both_times() -> None:
    before = {"links": frozenset({"lo"}), "qdiscs": frozenset({"a"})}
    after = {"links": frozenset({"lo", "eth0"}), "routes": frozenset({"r"})}
    assert certificate.differences(before, after) == ["+ links: eth0"]


class OneEffect:
    """As `Effects` shows itself to the auditor."""

    def __init__(self, active: Active) -> None:
        self.active = active
        self.faults = {"process.pause": self}
        self.reverted = 0

    def of(self) -> list[Active]:
        return [self.active]

    async def revert(self, one: Effect) -> None:
        self.reverted += 1
        os.kill(one.touches.processes[0].pid, 18)

    def residue(self, one: Effect) -> list[str]:
        return []


async def test_the_auditor_finds_reverts_and_tells_once(tmp_path: Path, stopped: proc.Identity) -> None:
    told: list[dict[str, Any]] = []
    one = effect(touches=Touched(processes=[stopped]))
    effects = OneEffect(Active(one, Asked("run", "first", "process.pause", {}, 1.0), state="reverted"))
    auditor = Auditor(effects, [tmp_path], lambda _kind, _run, body: told.append(body))  # type: ignore[arg-type]
    assert len(await auditor.look()) == 1
    await asyncio.to_thread(cases.wait_until, lambda: not proc.is_stopped(stopped), 2.0)
    assert await auditor.look() == []
    assert await auditor.look() == []
    assert effects.reverted == 1
    assert len(told) == 2
    assert told[1]["ours"] == told[1]["still"] == [], "that it is gone is told, too"
    assert f"pid {stopped.pid}" in told[0]["ours"][0]


async def test_the_auditor_leaves_alone_what_is_in_force(tmp_path: Path, stopped: proc.Identity) -> None:
    one = effect(touches=Touched(processes=[stopped]))
    effects = OneEffect(Active(one, Asked("run", "first", "process.pause", {}, 1.0), state="injected"))
    auditor = Auditor(effects, [tmp_path], lambda *_: None)  # type: ignore[arg-type]
    assert await auditor.look() == []
    assert proc.is_stopped(stopped)


def test_looking_at_a_node_finds_its_mounts_and_marks_what_it_could_not_look_at() -> None:
    node = nodestate.of_node()
    assert any(mount.startswith("/proc ") for mount in node["mounts"])
    assert nodestate.of_network("/proc/0/ns/net") == {}
