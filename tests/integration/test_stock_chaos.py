"""The same experiment file under `blackstart run` and under stock `chaos run`, against a real controller and agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from blackstart.client import Client
from blackstart.local.stack import Stack, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
PYTHON = {"type": "python", "module": "blackstart.chaos"}
TARGETS = {"labels": {"role": "web"}, "pick": "one"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as made:
        made.controller("127.0.0.1:0")
        made.agent("node", {"role": "web"})
        made.await_agents(1)
        yield made


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A small real service: its URL and its pid."""
    port = free_ports(1)
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield f"http://127.0.0.1:{port}/", process.pid
        process.send_signal(signal.SIGCONT)
        process.kill()


@pytest.fixture
def environ(stack: Stack) -> dict[str, str]:
    assert stack.settings is not None
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BLACKSTART")}
    return kept | {
        "BLACKSTART_CONTROLLER": stack.settings.controller,
        "BLACKSTART_CERTS": str(stack.settings.certs),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }


def _experiment(web: tuple[str, int], *, duration_s: float = 1, conditions: list[dict[str, Any]] | None = None) -> Any:
    url, pid = web
    steady = {"name": "web", "kind": "http", "targets": TARGETS, "spec": {"url": url}, "window_s": 0.5}
    control = {"name": "abort", "provider": {"type": "python", "module": "blackstart.chaos.abort"}}
    return {
        "version": "1.0.0",
        "title": "frozen",
        "description": "A service that stands still comes back.",
        "configuration": {"pid": pid, "duration_s": duration_s},
        "runtime": {"rollbacks": {"strategy": "always"}},
        "controls": [
            {"name": "telemetry", "provider": {"type": "python", "module": "blackstart.chaos.telemetry"}},
            control
            | {"provider": control["provider"] | {"arguments": {"conditions": conditions or [], "poll_s": 0.1}}},
        ],
        "steady-state-hypothesis": {
            "title": "it answers",
            "probes": [
                {
                    "type": "probe",
                    "name": "it answers",
                    "tolerance": {"type": "range", "range": [0.9, 1]},
                    "provider": PYTHON | {"func": "steady", "arguments": steady | {"stable_s": 1.0, "timeout_ms": 200}},
                }
            ],
        },
        "method": [
            _step(
                "freeze",
                "inject",
                name="freeze",
                fault="process.pause",
                targets=TARGETS,
                spec={"pid": "${pid}"},
                duration_s="${duration_s}",
            ),
            _step("wait", "recovery", probe="web", after="freeze", wait_s=30),
        ],
        "rollbacks": [_step("undo", "revert")],
    }


def _step(step: str, function: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "action", "name": step, "provider": PYTHON | {"func": function, "arguments": arguments}}


def _write(path: Path, experiment: Any) -> Path:
    path.write_text(yaml.safe_dump(experiment))
    return path


def _call(argv: list[str], environ: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, env=environ, cwd=folder, capture_output=True, text=True, timeout=90, check=False)


def _chaos(file: Path, environ: dict[str, str]) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    argv = ["chaos", "--no-version-check", "--no-log-file", "run", str(file)]
    done = _call(argv, environ, file.parent)
    journal = file.parent / "journal.json"
    assert journal.exists(), done.stdout + done.stderr
    return done, json.loads(journal.read_text())


def test_stock_chaos_run(stack, web, environ, tmp_path):
    done, journal = _chaos(_write(tmp_path / "x.yaml", _experiment(web)), environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert journal["blackstart"]["verdict"] == "held", journal["blackstart"]
    with Client(stack.settings) as client:
        run, document = client.show(journal["blackstart"]["run_id"])
    assert (run.state, run.outcome) == ("ended", "completed")
    (recovery,) = document["recoveries"]
    assert 0.8 < recovery["recovery"]["value"] < 10
    assert all(effect["confirmed"] for injection in document["injections"] for effect in injection["effects"])


def test_blackstart_run_of_the_same_file(web, environ, tmp_path):
    file = _write(tmp_path / "x.yaml", _experiment(web))
    done = _call(["blackstart", "run", str(file), "--watch", "--json", "--var", "duration_s=2"], environ, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["run"]["verdict"] == "held"
    assert result["document"]["recoveries"][0]["recovery"]["value"] > 1.8
    shown = _call(["blackstart", "runs", "show", result["run"]["id"]], environ, tmp_path)
    assert "process.pause" in shown.stdout


def test_a_dry_run_shows_the_effect_and_touches_nothing(web, environ, tmp_path):
    file = _write(tmp_path / "x.yaml", _experiment(web))
    done = _call(["blackstart", "run", str(file), "--dry-run"], environ, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"pid {web[1]}" in done.stdout
    assert "node" in done.stdout
    assert Path(f"/proc/{web[1]}/stat").read_text().split()[2] in "SR"


def test_an_abort_condition_reverts_and_interrupts(stack, web, environ, tmp_path):
    conditions = [{"probe": "web", "measure": "success_fraction", "below": 0.5, "window_s": 0.5}]
    file = _write(tmp_path / "x.yaml", _experiment(web, duration_s=60, conditions=conditions))
    begun_s = time.monotonic()
    done, journal = _chaos(file, environ)
    assert time.monotonic() - begun_s < 30
    assert journal["status"] == "interrupted", done.stdout + done.stderr
    assert journal["blackstart"]["outcome"] == "aborted"
    assert "bort condition met" in journal["blackstart"]["reason"]
    assert Path(f"/proc/{web[1]}/stat").read_text().split()[2] in "SR"


def test_ctrl_c_aborts_waits_and_exits_with_3(web, environ, tmp_path):
    file = _write(tmp_path / "x.yaml", _experiment(web, duration_s=60))
    argv = ["blackstart", "run", str(file), "--watch"]
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "fault.injected" in line:
                break
        process.send_signal(signal.SIGINT)
        rest, error = process.communicate(timeout=60)
    assert process.returncode == 3, rest + error
    assert "aborted" in rest
    assert Path(f"/proc/{web[1]}/stat").read_text().split()[2] in "SR"


def test_a_step_that_cannot_be_done_ends_the_experiment(web, environ, tmp_path):
    experiment = _experiment(web)
    experiment["method"][0]["provider"]["arguments"]["targets"] = {"labels": {"role": "nobody"}}
    done, journal = _chaos(_write(tmp_path / "x.yaml", experiment), environ)
    assert done.returncode == 1
    assert [run["activity"]["name"] for run in journal["run"]] == ["freeze"]
    assert "freeze" in journal["blackstart"]["reason"]


def test_the_rest_of_the_command_line(stack, environ, tmp_path):
    for command in (["agents", "list"], ["agents", "show", "node"], ["faults", "list"], ["audit"], ["doctor"]):
        done = _call(["blackstart", *command, "--json"], environ, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)
    assert _call(["blackstart", "stop", "--all", "--reason", "test"], environ, tmp_path).returncode == 0
    refused = _call(["blackstart", "run", str(_write(tmp_path / "x.yaml", _baseline()))], environ, tmp_path)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert refused.stderr.startswith("error: ")
    assert _call(["blackstart", "stop", "--lift"], environ, tmp_path).returncode == 0


def _baseline() -> dict[str, Any]:
    return {"version": "1.0.0", "title": "t", "description": "d", "method": []}


def test_a_viewer_may_look_but_not_touch(stack, environ, tmp_path):
    issue = ["blackstart", "certs", "issue", "vera", "--role", "viewer", "--ca"]
    made = _call([*issue, str(stack.state / "controller" / "pki" / "ca"), "-o", str(tmp_path / "v")], environ, tmp_path)
    assert made.returncode == 0, made.stderr
    viewer = environ | {"BLACKSTART_CERTS": str(tmp_path / "v")}
    assert _call(["blackstart", "runs", "list"], viewer, tmp_path).returncode == 0
    denied = _call(["blackstart", "stop", "--all"], viewer, tmp_path)
    assert denied.returncode == 2
    assert "viewer" in denied.stderr
