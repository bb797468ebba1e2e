"""Every target in turn, each in a process of its own: `python -m tests.fuzz.campaign` (make fuzz).

Prints and, with --out, writes a table: what was read, how often, how much of the code was reached, what broke.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HARNESS = [sys.executable, "-m", "tests.fuzz.harness"]
_PROGRESS = re.compile(rb"^#(\d+)\s+(\w+).*?\bcov: (\d+)", re.MULTILINE)
_DONE = re.compile(rb"^Done (\d+) runs in (\d+) second", re.MULTILINE)
ROOT = Path(__file__).parents[2]
VERSION = sys.version.split()[0]


@dataclass(frozen=True)
class Outcome:
    """*crash* holds the end of what the fuzzer wrote; empty when nothing broke."""

    executions: int
    reached: int
    crash: str
    example: bytes = b""


def run(name: str, *options: str, environment: dict[str, str] | None = None, timeout_s: float = 3600) -> Outcome:
    """Fuzzes one target until *options* (libFuzzer's) end it, or it breaks."""
    with tempfile.TemporaryDirectory(prefix="blackstart-fuzz-") as folder:
        corpus, found = Path(folder, "corpus"), Path(folder, "found")
        corpus.mkdir()
        found.mkdir()
        command = [*HARNESS, name, str(corpus), f"-artifact_prefix={found}/", "-timeout=25", *options]
        with Path(folder, "log").open("wb") as log:
            child = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env=os.environ | (environment or {}), start_new_session=True
            )
            try:
                child.wait(timeout_s)
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        written = Path(folder, "log").read_bytes()
        progress, done = _PROGRESS.findall(written), _DONE.findall(written)
        executions = int(done[-1][0]) if done else int(progress[-1][0]) if progress else 0
        reached = max((int(row[2]) for row in progress), default=0)
        examples = sorted(found.iterdir())
        crash = "" if child.returncode == 0 and done else written[-3000:].decode(errors="replace")
        return Outcome(executions, reached, crash, examples[0].read_bytes() if examples else b"")


def page(rows: list[tuple[str, str, str, Outcome]], seconds: int) -> str:
    lines = [
        "# Fuzzing", "",
        "Written by `make fuzz`: bytes from outside, drawn by a fuzzer that is guided by the coverage of our code",
        f"(atheris, libFuzzer), {seconds} s a target on {dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, Python {VERSION}.",
        "`make test` runs each target for some seconds, and has it find two planted bugs.",
        "", "| target | reads | must hold | executions | edges reached | broken |", "|---|---|---|---|---|---|",
        *(
            f"| {name} | {reads} | {holds} | {one.executions:,} | {one.reached:,} | {'yes' if one.crash else 'none'} |"
            for name, reads, holds, one in rows
        ),
        "", "Beside it `tests/property/test_hostile_*.py` draw from models of orders, journals, policies and names:",
        "their examples are well formed but for one thing, which blind bytes seldom are.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    from tests.fuzz import target

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--targets", nargs="*", default=sorted(target.TARGETS), choices=sorted(target.TARGETS))
    parser.add_argument("--seed", type=int, default=0, help="of the fuzzer; 0: drawn")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows, bad = [], 0
    for name in asked.targets:
        print(f"{name:12} {asked.seconds} s …", end="", flush=True)
        seed = [f"-seed={asked.seed}"] if asked.seed else []
        one = run(name, f"-max_total_time={asked.seconds}", *seed, timeout_s=asked.seconds + 120)
        print(
            f"\r{name:12} {one.executions:>10,} executions, {one.reached:>6,} edges, {'BROKEN' if one.crash else 'ok'}"
        )
        if one.crash:
            bad += 1
            print(one.crash, f"\nby these bytes: {one.example!r}")
        rows.append((name, target.TARGETS[name].reads, target.TARGETS[name].holds, one))
    if asked.out:
        asked.out.write_text(page(rows, asked.seconds), encoding="utf-8")
    return int(bad > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
