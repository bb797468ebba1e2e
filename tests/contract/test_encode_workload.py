"""The encode workload as the agent has it: real encoders, real processes, real signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'blackstart[media]'")

from agent.workloads.encode_workload import EncodeWorkload, Limits
from protos.error import ProbeError, RefusedError, SpecError
from tests.contract import encode_rig as rig

pytestmark = pytest.mark.alone
PATTERN = {"pattern": "testsrc2", "width": 192, "height": 96, "fps": 25, "duration_s": 2.0}
BASE = {"inputs": [PATTERN], "renditions": rig.LADDER, "gop_s": 0.5, "segment_s": 1.0, "warm_up": 0, "stall_s": 20}
SLOW = {
    "inputs": [PATTERN | {"width": 320, "height": 180, "duration_s": 15}], "quality": False, "decode_max": 0,
    "renditions": [{"height": 180, "crf": 10, "preset": "placebo"}],
}  # fmt: skip


class Rig:
    def __init__(self, folder: Path, *inputs: str) -> None:
        self.folder, self.said = folder / "encode", list[str]()
        limits = Limits(inputs, 8)
        self.workload = EncodeWorkload(self.folder, lambda: limits, lambda _run, text: self.said.append(text))

    def run(self, **more: Any) -> Any:
        return asyncio.run(self.workload.run("run-1", BASE | more))

    def pids(self) -> dict[int, int]:
        """Worker -> pid."""
        return {int(one.stem.removeprefix("worker-")): int(one.read_text()) for one in self.folder.glob("worker-*.pid")}

    async def busy(self) -> None:
        """Until the first worker is in the middle of a job."""
        until, board = time.monotonic() + 60, self.folder / "board"
        while not board.exists() or int.from_bytes(board.read_bytes()[:8], sys.byteorder) < 30:
            assert time.monotonic() < until
            await asyncio.sleep(0.01)

    def is_clean(self) -> bool:
        return not self.folder.exists() and not running()


def running() -> list[int]:
    return [one.pid for one in psutil.Process().children(recursive=True) if "agent.workloads.encode" in _line(one)]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_levels_have_speed_with_its_quality(tmp_path):
    at = Rig(tmp_path)
    done = at.run(closed={"jobs": [1, 3], "count": 6})
    one, three = done.detail["levels"]
    for level in (one, three):
        assert (level["count"], level["done"], level["failed"], level["lost"]) == (6, 6, 0, 0)
        assert level["frames"] == 6 * 50
        assert level["videos_s"] == pytest.approx(level["frames_s"] / 50)
        assert level["rtf"]["mean"] * 2.0 == pytest.approx(level["service_s"]["mean"])
        assert 0 < level["frames_cpu_s"] < 1e5
        assert level["rss_mb"]["max"] > 10
    assert done.detail["decoded"] == {"outputs": 12, "of": 12, "wrong": [], "failed": []}
    assert [(row["rung"], row["pictures"]) for row in done.detail["quality"]] == [("96p", 50), ("48p", 50)]
    names = {figure.name for figure in done.figures}
    assert {"1 at a time: videos", "3 at a time: frames per processor second"} <= names
    assert any(name.endswith("seed 1, 192x96, 25/s, 2 s: PSNR") for name in names)
    assert "12 of 12 videos encoded" in done.summary
    assert at.is_clean()


def test_an_open_loop_counts_the_wait_from_the_instant_that_a_video_was_due(tmp_path):
    """One worker, a rate that it holds and one that it cannot: the queue grows, and the knee is between."""
    at = Rig(tmp_path)
    alone = at.run(closed={"jobs": [1], "count": 5}).detail["levels"][0]["service_s"]["mean"]
    rates = [0.4 / alone, 3.0 / alone]
    done = at.run(open={"rates": rates, "duration_s": 3, "workers": 1, "random": False, "p95_max_s": 1.2})
    calm, flooded = done.detail["levels"]
    assert calm["wait_s"]["p50"] < alone
    assert flooded["wait_s"]["max"] > 1.5, "twice as much stands in the queue at the end as was done"
    assert flooded["turnaround_s"]["max"] > flooded["wait_s"]["max"]
    assert flooded["videos_s"] < rates[1] / 2
    assert done.detail["knee"] == {"rate": rates[0], "next": rates[1], "p95_max_s": 1.2}


def test_bad_inputs_fail_alone(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rig.pattern(folder)
    (folder / "a-text.mp4").write_text("no video")
    rig.tone(folder / "b-sound.mp4")
    at = Rig(tmp_path, f"{folder}*")
    done = at.run(inputs=[{"path": str(folder)}], closed={"jobs": [2], "count": 6})
    (level,) = done.detail["levels"]
    assert (level["done"], level["failed"], level["lost"]) == (2, 4, 0)
    assert sorted({one.rpartition(": ")[2] for one in level["errors"]}) == [
        "Invalid data found when processing input", "has no pictures to encode (it holds audio)",
    ]  # fmt: skip
    with pytest.raises(ProbeError, match=r"no video was encoded: .*a-text\.mp4: cannot be read as a video"):
        at.run(inputs=[{"path": str(folder / "a-text.mp4")}])
    assert at.is_clean()


@pytest.mark.parametrize(("number", "told"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSTOP, "stood still")])
def test_a_worker_that_dies_or_stands_still_costs_one_job_an_attempt(tmp_path, number, told):
    at = Rig(tmp_path)

    async def drive() -> Any:
        task = asyncio.create_task(at.workload.run("run-1", BASE | SLOW | {
            "inputs": [PATTERN | {"duration_s": 8}], "renditions": rig.LADDER, "stall_s": 1,
            "closed": {"jobs": [2], "count": 6}}))  # fmt: skip
        await at.busy()
        os.kill(at.pids()[0], number)
        return await task

    done = asyncio.run(drive())
    (level,) = done.detail["levels"]
    assert (level["done"], level["lost"], level["redone"], level["duplicated"]) == (6, 0, 1, 0)
    assert done.detail["deaths"] == 1
    lost = asyncio.run(_without_another_attempt(tmp_path, number))
    assert (lost["done"], lost["lost"], lost["redone"]) == (5, 1, 0)
    assert told in lost["errors"][0]
    assert at.is_clean()


def test_a_worker_that_dies_at_a_key_frame_leaves_no_gap_and_no_half_segment(tmp_path):
    """The instant at which a segment has been closed and the next one begins: of each rung, in the same job."""
    at = Rig(tmp_path)
    pictures_a_gop = 25  # a second of 25/s, each segment one group of pictures
    asked = BASE | {
        "inputs": [PATTERN | {"width": 320, "height": 180, "duration_s": 6}], "gop_s": 1.0, "segment_s": 1.0,
        "renditions": [{"height": 180, "crf": 20, "preset": "slow"}, {"height": 96, "crf": 20, "preset": "slow"}],
        "closed": {"jobs": [1], "count": 2},
    }  # fmt: skip

    async def drive() -> tuple[Any, int]:
        task = asyncio.create_task(at.workload.run("run-1", asked))
        await at.busy()
        until = time.monotonic() + 60
        while True:
            board = at.folder / "board"
            seen = int.from_bytes(board.read_bytes()[:8], sys.byteorder)
            if seen >= 2 * pictures_a_gop and seen % pictures_a_gop == 1:  # the key frame has gone into its encoder
                os.kill(at.pids()[0], signal.SIGKILL)
                return await task, seen
            assert time.monotonic() < until
            await asyncio.sleep(0)

    done, seen = asyncio.run(drive())
    (level,) = done.detail["levels"]
    assert (level["done"], level["lost"], level["redone"], level["duplicated"]) == (2, 0, 1, 0), seen
    assert level["frames"] == 2 * 6 * 25
    assert done.detail["decoded"] == {"outputs": 2, "of": 2, "wrong": [], "failed": []}
    assert at.is_clean()


async def _without_another_attempt(tmp_path: Path, number: int) -> Any:
    at = Rig(tmp_path)
    task = asyncio.create_task(at.workload.run("run-1", BASE | {
        "inputs": [PATTERN | {"duration_s": 8}], "stall_s": 1, "attempts": 1, "quality": False,
        "closed": {"jobs": [2], "count": 6}}))  # fmt: skip
    await at.busy()
    os.kill(at.pids()[0], number)
    return (await task).detail["levels"][0]


@pytest.mark.parametrize("early", [False, True])
def test_it_ends_when_it_is_told_to_and_nothing_stays(tmp_path, early):
    at = Rig(tmp_path)

    async def drive() -> None:
        task = asyncio.create_task(at.workload.run("run-1", BASE | SLOW | {"closed": {"jobs": [2]}}))
        await asyncio.sleep(0)
        while not early and len(at.pids()) < 2:
            await asyncio.sleep(0.05)
        await at.workload.end("another run")
        assert not task.done()
        with pytest.raises(RefusedError, match="under way"):
            await at.workload.run("run-2", BASE)
        begun = time.monotonic()
        await at.workload.end("run-1")
        assert at.is_clean(), "once `end` has returned"
        with pytest.raises(ProbeError, match="ended before"):
            await task
        assert time.monotonic() - begun < 3

    asyncio.run(drive())
    assert at.is_clean()


AGENT = """
import asyncio, json, sys
from pathlib import Path
from agent.workloads.encode_workload import EncodeWorkload, Limits
workload = EncodeWorkload(Path(sys.argv[1]), lambda: Limits([], 8), lambda run, text: None)
asyncio.run(workload.run("run-4", json.loads(sys.argv[2])))
"""


def test_nothing_runs_on_when_the_agent_is_killed(tmp_path):
    at = Rig(tmp_path)
    with subprocess.Popen([sys.executable, "-c", AGENT, str(at.folder), json.dumps(BASE | SLOW)]) as agent:
        end = time.monotonic() + 30
        while not at.pids():
            assert time.monotonic() < end
            time.sleep(0.05)
        children = psutil.Process(agent.pid).children(recursive=True)
        assert len(children) >= 2
        agent.kill()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    at.workload.forget()  # the agent's next start
    assert at.is_clean()


def test_what_the_node_does_not_allow_is_refused_and_nothing_started(tmp_path):
    at = Rig(tmp_path, f"{tmp_path}/in/*")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.mp4").symlink_to("/etc/passwd")
    for path in ("/etc/passwd", f"{tmp_path}/in/../x.mp4", f"{tmp_path}/in/link.mp4"):
        with pytest.raises(RefusedError, match="policy does not allow to read"):
            at.run(inputs=[{"path": path}])
    with pytest.raises(RefusedError, match="9 jobs at a time are more"):
        at.run(closed={"jobs": [1, 9]})
    with pytest.raises(SpecError, match="no such encoder"):
        at.run(renditions=[{"height": 96, "crf": 20, "codec": "no_such"}])
    with pytest.raises(ProbeError, match="not through within timeout_s"):
        at.run(**SLOW | {"timeout_s": 3, "job_timeout_s": 3})
    assert at.is_clean()
