"""Targets of `process.*`: a process with a thread and a child, both busy."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.system import proc
from tests.chaos.case import Case, end, holders, line, subject, wait_until

TARGET = """
import os, sys, threading
child = os.fork()
threading.Thread(target=lambda: [0 for _ in iter(int, 1) if not __import__("time").sleep(0.001)], daemon=True).start()
if child: print(child, flush=True)
while True: sum(range(2000)); __import__("time").sleep(0.001)
"""


@contextlib.contextmanager
def target() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process and its child's pid."""
    process = subprocess.Popen([sys.executable, "-c", TARGET], stdout=subprocess.PIPE)
    child = int(line(process))
    try:
        yield process, child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 9)
        end(process)


def members(*pids: int) -> list[proc.Identity]:
    return [identity for pid in pids if (identity := proc.identify(pid))]


@subject("process.kill")
def kill() -> Iterator[Case]:
    with target() as (process, child):
        yield Case(
            "process.kill", {"pid": process.pid}, lambda: {"alive": len(members(process.pid, child))},
            vanish=lambda: (process.kill(), process.wait(), None)[-1], spent=frozenset({"alive"}),
        )  # fmt: skip


@subject("process.pause", variants={"sigstop": {"mechanism": "sigstop"}})
def pause() -> Iterator[Case]:
    with target() as (process, child):

        def stopped() -> list[int]:
            return [one.pid for one in members(process.pid, child) if proc.is_stopped(one)]

        yield Case(
            "process.pause", {"pid": process.pid, "mechanism": "ptrace"},
            lambda: {"stopped": stopped(), "alive": len(members(process.pid, child))},
            in_force=lambda: bool(stopped()), vanish=lambda: (process.kill(), process.wait(), None)[-1],
        )  # fmt: skip


SERVICE = """
while true; do sleep 600 & echo $! > "$1.new"; mv "$1.new" "$1"; wait $!; sleep 0.05; done
"""


@subject("process.restart_loop")
def restart_loop() -> Iterator[Case]:
    with tempfile.TemporaryDirectory(prefix="blackstart-test-") as folder:
        pid_file = Path(folder) / "service.pid"
        process = subprocess.Popen(["sh", "-c", SERVICE, "sh", str(pid_file)], start_new_session=True)
        wait_until(pid_file.exists, 5.0)
        try:
            yield Case(
                "process.restart_loop", {"pid_file": str(pid_file), "interval_s": 0.1},
                in_force=lambda: bool(holders()), vanish=lambda: os.killpg(process.pid, 9),
            )  # fmt: skip
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            end(process)
