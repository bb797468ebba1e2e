"""`blackstart testcluster`: the control plane in the foreground, or behind until it is told to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from blackstart.local.cluster import build
from blackstart.local.cluster.node import fake_nodes
from blackstart.local.cluster.plane import READY_S, Plane
from blackstart.local.folder import emptied
from protos.error import BlackstartError, Exit, RefusedError

_MARK: Final = ".blackstart-testcluster"
_RECORD: Final = "cluster.json"  # there as long as the cluster runs
_LOG: Final = "cluster.log"
_LOOK_S: Final = 0.1
_STOP_S: Final = 60.0


def up(state: Path, nodes: int) -> int:
    """Runs the cluster until Ctrl-C or SIGTERM."""
    programs = build.programs()
    state = _fresh(state)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with Plane(programs, state, say=_say) as plane:
            if nodes:
                fake_nodes(programs["kubectl"], plane.admin, nodes)
                _say(f"{nodes} nodes, played by KWOK")
            for name in ("scheduler", "controllers"):  # what the experiments of ramps ask for their metrics
                _say(f"export BLACKSTART_RAMP_{name.upper()}=https://127.0.0.1:{plane.ports[name]}/metrics")
            record = {"pid": os.getpid(), "server": plane.server, "kubeconfig": str(plane.admin),
                      "kubectl": str(programs["kubectl"])}  # fmt: skip
            (state / _RECORD).write_text(json.dumps(record), encoding="utf-8")
            _say(f"export KUBECONFIG={plane.admin}")
            while all(member.running() for member in plane.members.values()):
                time.sleep(_LOOK_S)
            raise next(member.failure() for member in plane.members.values() if not member.running())
    except KeyboardInterrupt:
        _say("stopping")
    finally:
        (state / _RECORD).unlink(missing_ok=True)
    return int(Exit.HELD)


def detach(state: Path, nodes: int) -> int:
    """Starts the cluster behind, and returns once it serves."""
    build.programs()  # here, where its progress is seen
    state = state.absolute()
    if (running := _running(state)) is not None:
        raise RefusedError(f"a test cluster runs already with state {state} (pid {running}): testcluster down ends it")
    state.mkdir(parents=True, exist_ok=True)
    log = state.with_name(f"{state.name}.log")
    options = ["--state", str(state), "--nodes", str(nodes)]
    command = [sys.executable, "-m", "blackstart.cli", "testcluster", "up", *options]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _follow(log, lambda: child.poll() is None and not (state / _RECORD).exists(), 4 * READY_S)
    except KeyboardInterrupt:
        child.terminate()
        child.wait(_STOP_S)
        raise
    if not (state / _RECORD).exists():
        child.terminate()
        raise BlackstartError(f"the test cluster did not start: see {log}")
    return int(Exit.HELD)


def down(state: Path) -> int:
    """Ends the cluster of *state*; one that does not run is no error."""
    state = state.absolute()
    pid = _running(state)
    if pid is None:
        _say(f"no test cluster runs with state {state}")
        return int(Exit.HELD)
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        until = time.monotonic() + _STOP_S
        while _running(state) == pid and time.monotonic() < until:
            time.sleep(_LOOK_S)
    finally:
        os.close(handle)
    if _running(state) == pid:
        raise BlackstartError(f"the test cluster (pid {pid}) does not end: see {state / 'log'}")
    _say("the test cluster has ended")
    return int(Exit.HELD)


def _running(state: Path) -> int | None:
    """The pid of the process that runs the cluster of *state*."""
    try:
        pid = int(json.loads((state / _RECORD).read_bytes())["pid"])
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, KeyError):
        return None
    return pid if b"testcluster" in words else None


def _fresh(state: Path) -> Path:
    """An empty state directory: certificates and data of before are of another cluster."""
    state = state.absolute()
    if (running := _running(state)) is not None:
        raise RefusedError(f"a test cluster runs already with state {state} (pid {running}): testcluster down ends it")
    emptied(state, _MARK, 0o700)
    return state


def _follow(log: Path, going: Callable[[], bool], timeout_s: float) -> None:
    """Shows what is written to *log* as long as *going* says so."""
    until = time.monotonic() + timeout_s
    with log.open(encoding="utf-8", errors="replace") as lines:
        while True:
            more = going() and time.monotonic() < until
            for line in lines:
                print(line, end="", flush=True)
            if not more:
                return
            time.sleep(_LOOK_S)


def _say(line: str) -> None:
    print(line, flush=True)
