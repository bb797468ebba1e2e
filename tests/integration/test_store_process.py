"""The store's processes killed while they write, and a disk that fills up: what was acknowledged is there."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from blackstart.local import switch
from controller.store.sql import SqlStore, sqlite_url

WRITER = """
import asyncio, sys
from pathlib import Path
from controller.store.base import ChunkRecord, RunRecord
from controller.store.sql import SqlStore, sqlite_url

async def main():
    store = SqlStore(sqlite_url(Path(sys.argv[1])))
    await store.open()
    await store.add_run(RunRecord("run-1", "", "", "", {}, 0))
    async def write(lane):
        for i in range(1, 100000):
            event = await store.add_event("run-1", "step", str(lane), {}, i)
            await store.ingest(f"node-{lane}", "spool", i, [ChunkRecord("run-1", f"node-{lane}", "p", i, 1, b"x")])
            print(event.number, lane, i, flush=True)
    await asyncio.gather(*map(write, range(3)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 12, 40])
def test_what_was_acknowledged_survives_sigkill(tmp_path, lines):
    path = tmp_path / "s.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        acknowledged = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
    told = [tuple(map(int, line.split())) for line in acknowledged if line.endswith("\n")]
    asyncio.run(_verify(path, told))


async def _verify(path, told) -> None:
    store = SqlStore(sqlite_url(path))
    await store.open()
    numbers = [event.number for event in await store.events("run-1")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {number for number, _, _ in told} <= set(numbers)
    kept = {(int(c.agent_id[-1]), c.first_index) for c in await store.chunks("run-1")}
    assert {(lane, index) for _, lane, index in told} <= kept
    for lane in range(3):
        assert await store.acknowledged(f"node-{lane}", "spool") == len([k for k in kept if k[0] == lane])
    await store.close()


FULL_DISK = """
import asyncio, os, subprocess, sys
from pathlib import Path
from controller.store.base import RunRecord
from controller.store.sql import SqlStore, sqlite_url
from protos.error import TransientError

async def main():
    disk = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    store = SqlStore(sqlite_url(disk / "s.db"))
    await store.open()
    await store.add_run(RunRecord("run-1", "", "", "", {}, 0))
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    kept = 0
    try:
        while kept < 10_000:
            await store.add_event("run-1", "step", "x" * 10_000, {}, 0)
            kept += 1
    except TransientError as error:
        assert str(disk / "s.db") in str(error) and "is full: free space" in str(error), error
    assert 0 < kept < 10_000
    assert len(await store.events("run-1")) == kept
    ballast.unlink()
    assert (await store.add_event("run-1", "step", "", {}, 0)).number == kept + 1
    await store.close()
    again = SqlStore(sqlite_url(disk / "s.db"))
    await again.open()
    assert [e.number for e in await again.events("run-1")] == list(range(1, kept + 2))
    await again.close()
    (disk / "fill").write_bytes(bytes(os.statvfs(disk).f_bavail * 4096))
    try:
        await SqlStore(sqlite_url(disk / "new" / "s.db")).open()
    except TransientError as error:
        assert "free space" in str(error), error
    else:
        raise AssertionError("opened on a full disk")
    print("all held")

asyncio.run(main())
"""


@pytest.mark.root
def test_a_full_disk_is_named_and_loses_nothing(tmp_path):
    if os.geteuid() != 0 or switch.available():
        pytest.skip(switch.available() or "mounting a small disk needs root")
    ended = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", FULL_DISK, str(tmp_path)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.stdout == "all held\n", ended.stderr
