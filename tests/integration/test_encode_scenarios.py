"""Encoding while something breaks: experiments as they are shipped, on smaller videos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("av", reason="needs PyAV: pip install 'blackstart[media]'")

from blackstart.client import Client
from blackstart.local.stack import Stack

pytestmark = [pytest.mark.alone, pytest.mark.timeout(240)]
FOLDER = Path(__file__).parents[2] / "experiments" / "performance"
SMALL = {
    "inputs": [{"pattern": "testsrc2", "width": 480, "height": 270, "fps": 30, "duration_s": 2}],
    "renditions": [{"height": 270, "crf": 23}, {"height": 180, "crf": 23}],
    "decode_max": 10,
}  # fmt: skip


def shrunk(name: str, folder: Path, duration_s: int, **spec: Any) -> Path:
    """The experiment that is shipped, with videos for a test's time: the probe looks at less, and sooner."""
    document = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for activity in document["method"]:
        arguments = activity["provider"]["arguments"]
        if activity["provider"]["func"] == "run_workload":
            arguments["spec"] |= SMALL | spec
            arguments["spec"]["closed"]["duration_s"] = duration_s
        elif activity["provider"]["func"] == "start_probe":
            arguments["spec"] |= {"reference_s": 6, "window_s": 2}
            arguments["stable_s"] = 4
            activity["pauses"] = {"before": 5}
        elif activity["provider"]["func"] == "inject":
            activity["pauses"] = {"before": 12}
            arguments["duration_s"] = min(arguments["duration_s"], 8)
        else:
            activity["pauses"] = {"before": 8}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def ran(file: Path, folder: Path, **env: str) -> tuple[int, dict[str, Any], str]:
    """Exit code and document of a run on one agent."""
    with Stack(folder / "state") as stack:
        stack.agent_env |= env
        stack.controller("127.0.0.1:0")
        stack.agent("gpu", {"role": "encode"})
        stack.await_agents(1)
        assert stack.settings is not None
        pid_file = folder / "state" / "agent-gpu" / "encode" / "worker-0.pid"
        certs = {"BLACKSTART_CONTROLLER": stack.settings.controller, "BLACKSTART_CERTS": str(stack.settings.certs)}
        done = subprocess.run(
            [sys.executable, "-m", "blackstart.cli", "run", str(file)], capture_output=True, text=True, check=False,
            timeout=200, env={**os.environ, **certs, "BLACKSTART_ENCODE_WORKER": str(pid_file), **env},
        )  # fmt: skip
        with Client(stack.settings) as client:
            found = client.runs()
            return done.returncode, client.show(found[0].id)[1] if found else {}, done.stdout + done.stderr


def level_of(document: dict[str, Any], said: str) -> dict[str, Any]:
    (entry,) = document["workloads"]
    assert entry["detail"]["decoded"]["wrong"] == [], said
    return dict(entry["detail"]["levels"][0])


def test_a_killed_worker_costs_an_attempt_and_the_node_is_as_fast_as_before(tmp_path):
    code, document, said = ran(shrunk("ladder-worker-killed", tmp_path, 40), tmp_path)
    level = level_of(document, said)
    assert (level["lost"], level["duplicated"], level["failed"]) == (0, 0, 0), said
    assert level["redone"] == 1
    (recovery,) = document["recoveries"]
    assert 0 <= recovery["recovery"]["value"] < 30, said
    assert code == 0, json.dumps(document["reasons"]) + said


def test_a_frozen_worker_is_replaced_by_what_it_does_not_do(tmp_path):
    code, document, said = ran(shrunk("ladder-worker-frozen", tmp_path, 40, stall_s=4), tmp_path)
    level = level_of(document, said)
    assert (level["lost"], level["duplicated"], level["failed"], level["redone"]) == (0, 0, 0, 1), said
    (recovery,) = document["recoveries"]
    assert 3 < recovery["recovery"]["value"] < 30, said
    assert code == 0, json.dumps(document["reasons"]) + said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a disk of its own")
def test_a_full_disk_loses_no_video(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "blackstart-test", str(disk)], check=True)
    try:
        file = shrunk("encode-disk-full", tmp_path, 40)
        code, document, said = ran(file, tmp_path, BLACKSTART_AGENT_SCRATCH=str(disk))
        assert not list(disk.iterdir()), "nothing stays on it"
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    level = level_of(document, said)
    assert (level["lost"], level["duplicated"], level["failed"]) == (0, 0, 0), said
    assert document["injections"][0]["effects"][0]["confirmed"], said
    assert level["redone"] > 0, said
    assert code == 0, json.dumps(document["reasons"]) + said


def test_a_gpu_fault_is_refused_where_there_is_no_gpu(tmp_path):
    code, document, said = ran(shrunk("encode-gpu-power-capped", tmp_path, 20), tmp_path)
    assert code == 2, said
    assert "no GPU" in said
    assert not document.get("injections")
