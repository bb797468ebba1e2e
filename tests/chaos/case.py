"""One case a fault: a target of its own, a spec that names it, and the state that must be as before."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.system import proc

TARGET = """
import os, sys, threading
child = os.fork()
threading.Thread(target=lambda: [0 for _ in iter(int, 1) if not __import__("time").sleep(0.001)], daemon=True).start()
if child: print(child, flush=True)
while True: sum(range(2000)); __import__("time").sleep(0.001)
"""


@dataclass
class Case:
    """`fingerprint` is equal before and after; `in_force` says whether the fault's effect can be seen right now."""

    kind: str
    spec: dict[str, Any]
    processes: list[subprocess.Popen[bytes]]
    children: list[int]

    def fingerprint(self) -> dict[str, Any]:
        """Everything that this fault could leave behind, seen without its code."""
        return {
            "stopped": [one.pid for one in self._members() if proc.is_stopped(one)],
            "alive": len(self._members()),
            "holders": _holders(),
            "rules": self._rules(),
        }

    def in_force(self) -> bool:
        if self.kind == "process.pause":
            return any(proc.is_stopped(one) for one in self._members())
        if self.kind == "resource.cpu":
            return bool(_holders())
        if self.kind == "network.partition":
            return "blackstart" in self._rules()
        return False

    def _members(self) -> list[proc.Identity]:
        pids = [process.pid for process in self.processes] + self.children
        return [identity for pid in pids if (identity := proc.identify(pid))]

    def _rules(self) -> str:
        if self.kind != "network.partition":
            return ""
        command = ["nsenter", f"--net=/proc/{self.processes[0].pid}/ns/net", "nft", "list", "ruleset"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _holders() -> list[str]:
    """Holders that this test's own agents may have left: found by command line and state directory's owner."""
    marker = f"{os.getpid()}"
    found = []
    for pid in proc.pids():
        line = proc.command_line(pid)
        if "agent.faults.hold" in line and _descends(pid, marker):
            found.append(line)
    return found


def _descends(pid: int, marker: str) -> bool:
    try:
        return f"BLACKSTART_TEST={marker}" in Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except (OSError, ValueError):
        return False


def environment() -> dict[str, str]:
    """For the agents of a test: what they start inherits the mark by which leftovers are found."""
    return {**os.environ, "BLACKSTART_TEST": str(os.getpid())}


def missing(kind: str) -> str:
    """Why the case cannot run here; empty if it can."""
    if kind != "network.partition":
        return ""
    if os.getuid():
        return "needs root"
    return "" if shutil.which("nft") and shutil.which("nsenter") else "install nftables and util-linux"


@contextlib.contextmanager
def case(kind: str) -> Iterator[Case]:
    """A fresh target for one fault; killed at the end."""
    if kind == "network.partition":
        script = "ip link set lo up; echo ready; exec sleep 600"
        process = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE)
        _line(process)
        spec: dict[str, Any] = {"peers": ["127.0.0.7"], "network_of": {"pid": process.pid}}
        made = Case(kind, spec, [process], [])
    elif kind == "resource.cpu":
        made = Case(kind, {"load_fraction": 0.5, "workers": 1}, [], [])
    else:
        process = subprocess.Popen([sys.executable, "-c", TARGET], stdout=subprocess.PIPE)
        made = Case(kind, {"pid": process.pid}, [process], [int(_line(process))])
    try:
        yield made
    finally:
        for pid in made.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        for process in made.processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def wait_until(check: Any, timeout_s: float) -> float:
    """Seconds until *check* was true; AssertionError when it never was."""
    started = time.monotonic()
    while not check():
        assert time.monotonic() - started < timeout_s, f"not within {timeout_s} s"
        time.sleep(0.005)
    return time.monotonic() - started
