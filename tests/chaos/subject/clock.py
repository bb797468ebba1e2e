"""Targets of `time.*`: a program under the wrapper, with an offset file of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.system import preload
from tests.chaos.case import Case, end, line, subject

TELL = "while read -r _; do date +%s; done"  # a clock that is asked by a line


def missing() -> str:
    return "" if preload.installed() else "install libfaketime"


@contextlib.contextmanager
def wrapped(*options: str, script: str = TELL) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """The process, the name that it runs under, and its offset file (which is not there)."""
    with tempfile.TemporaryDirectory(prefix="blackstart-clock-") as folder:
        name = f"test-{os.getpid()}-{Path(folder).name}"
        command = [sys.executable, "-m", "agent", "wrap", "--name", name, "--folder", folder, *options, "--"]
        process = subprocess.Popen(
            [*command, "sh", "-c", f"echo ready; {script}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert line(process) == b"ready\n"
            yield process, name, Path(folder, name)
        finally:
            end(process)
            for left in Path("/dev/shm").glob(f"*faketime*_{process.pid}"):  # libfaketime's own, of a killed program
                left.unlink()


def asked(process: subprocess.Popen[bytes]) -> int:
    """What time it is for the target."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    return int(line(process))


@subject("time.clock_skew", missing=missing, variants={"drift": {"drift_ppm": 50_000}})
def clock_skew() -> Iterator[Case]:
    with wrapped() as (process, name, file):
        yield Case(
            "time.clock_skew", {"name": name, "skew_s": -3600.0},
            lambda: {"link": os.path.lexists(file)}, in_force=file.exists,
            vanish=lambda: (process.kill(), process.wait(), None)[-1],
        )  # fmt: skip
