"""Self-chaos: SIGKILL of the agent, the guardian, or both, at every step of the contract and at random instants.

`python -m tests.chaos.campaign [--trials N] [--seed S] [--out docs/undo.md]`. Every trial has a target of its own, puts
a real fault in force, kills, and then watches from outside: when is the effect gone, is the state exactly as before?
Then the agent's next start must find nothing left to end. Exit code 1 if any effect outlives its deadline by more than
0.5 s or leaves a residue.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.journal import Journal
from tests.chaos import case as cases
from tests.chaos.victim import STEPS

BOUND_S = 0.5
_DURATION_S = 1.2
_GIVE_UP_S = 10.0
VARIANTS = cases.variants()
KILLED = ("agent", "guardian", "both")


@dataclass(frozen=True)
class Trial:
    """What to kill and when: at a gate, or after a random time since the order."""

    variant: str
    killed: str
    step: str = ""
    after_s: float = 0.0

    def __str__(self) -> str:
        when = f"at {self.step}" if self.step else f"after {self.after_s * 1000:.0f} ms"
        return f"{self.variant}, {self.killed} killed {when}"


@dataclass(frozen=True)
class Outcome:
    """What was seen from outside.

    *late_s*: how long after the deadline the effect was still there, negative when it ended before; None: there was
    nothing to end. *undo_s*: from the kill to the state as before.
    """

    trial: Trial
    undo_s: float
    late_s: float | None
    residue: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not self.residue and (self.late_s is None or self.late_s <= BOUND_S)


def trials(count: int, seed: int) -> Iterator[Trial]:
    """Every variant and killed part in turn, gates and random instants alternating; the same for the same seed."""
    chance = random.Random(seed)
    names = [name for name, (kind, _) in VARIANTS.items() if not cases.missing(kind)]
    pairs = [(name, killed) for name in names for killed in KILLED]
    for at in range(count):
        variant, killed = pairs[at % len(pairs)]
        lap = at // len(pairs)
        if lap % 2 == 0:
            yield Trial(variant, killed, step=STEPS[(lap // 2 * 5 + at) % len(STEPS)])
        else:
            yield Trial(variant, killed, after_s=chance.uniform(0.0, _DURATION_S + 0.6))


class Subject:
    """One gated victim, seen from outside."""

    def __init__(self, state: Path, made: cases.Case, *, gated: bool) -> None:
        self.deadline_ns = 0
        self.guardian = 0
        arguments = [str(state), made.kind, json.dumps(made.spec), str(_DURATION_S), str(int(gated))]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.victim", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=cases.environment(),
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input, self._output = self.process.stdin, self.process.stdout

    def run_to(self, step: str) -> bool:
        """Answers every gate until *step* is reached; False when the victim ended before."""
        for line in self._output:
            message = json.loads(line)
            self.deadline_ns = message.get("deadline_ns") or self.deadline_ns
            self.guardian = message.get("guardian") or self.guardian
            if message.get("gate") == step:
                return True
            if "gate" in message:
                self.answer()
        return False

    def answer(self) -> None:
        try:
            self._input.write(b"\n")
            self._input.flush()
        except BrokenPipeError:
            pass  # it is dead: that is what the trial is about

    def guardian_pid(self) -> int:
        """The guardian is the victim's only child with that module in its command line."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in children.read_text(encoding="ascii").split() if children.exists() else []:
            if "agent.guardian" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8"):
                return int(pid)
        return self.guardian

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):  # an answer that it did not live to read
            self._input.close()
        self._output.close()


def attempt(trial: Trial) -> Outcome:
    """One trial, from a fresh target to the audit."""
    kind, extra = VARIANTS[trial.variant]
    with cases.case(kind) as made, tempfile.TemporaryDirectory(prefix="blackstart-chaos-") as folder:
        made.spec |= extra
        before = made.comparable()
        subject = Subject(Path(folder), made, gated=bool(trial.step))
        try:
            if trial.step:
                subject.run_to(trial.step)
            else:
                subject.run_to("arm")
            gone_ns = _watch(made, before, trial.after_s)
            killed_s = time.monotonic()
            _kill(trial.killed, subject)
            if trial.killed == "guardian":
                subject.answer()
                subject.run_to("ended" if trial.step != "ended" else "")
            gone_ns = _gone(made, before) or gone_ns
            late_s = (gone_ns - subject.deadline_ns) / 1e9 if subject.deadline_ns and gone_ns else None
        finally:
            subject.close()
        residue = [*_audit(made, before), *_next_start(Path(folder), made)]
        return Outcome(trial, max(0.0, gone_ns / 1e9 - killed_s), late_s, tuple(residue))


def _kill(which: str, subject: Subject) -> None:
    guardian = subject.guardian_pid()
    if which in ("agent", "both"):
        subject.process.kill()
    if which in ("guardian", "both") and guardian:
        try:
            os.kill(guardian, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it had ended with its agent


def _watch(made: cases.Case, before: dict[str, Any], for_s: float) -> int:
    """Looks on for a while; the first instant of the state as before that followed a changed one, 0 if none did."""
    until, changed, back_ns = time.monotonic() + for_s, False, 0
    while time.monotonic() < until:
        now_changed = made.comparable() != before
        if changed and not now_changed:
            back_ns = time.monotonic_ns()
        changed = now_changed
        time.sleep(0.01)
    return 0 if changed else back_ns


def _gone(made: cases.Case, before: dict[str, Any]) -> int:
    """The instant at which the state is as before again; 0 if it is so already. Gives up after 10 s: then it is now."""
    give_up, waited = time.monotonic() + _GIVE_UP_S, False
    while (made.comparable() != before) and time.monotonic() < give_up:
        waited = True
        time.sleep(0.01)
    return time.monotonic_ns() if waited else 0


def _audit(made: cases.Case, before: dict[str, Any]) -> list[str]:
    now = made.comparable()
    return [f"{key}: {now[key]!r} is not {was!r}" for key, was in before.items() if now[key] != was]


def _next_start(state: Path, made: cases.Case) -> list[str]:
    """What the agent's next start leaves open; the target must not have been touched again."""
    command = [sys.executable, "-m", "agent", "doctor", "--clean", "--json", "--state", str(state)]
    until = time.monotonic() + 3.0
    while (answer := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
        if time.monotonic() > until:
            return [f"the next start failed: {answer.stderr.strip()}"]
    left = [f"{row['description']}: {row['residue']}" for row in json.loads(answer.stdout)["cleaned"] if row["residue"]]
    journal = Journal(state)
    left += [f"still open in the journal: {effect.description}" for effect in journal.in_force()]
    journal.close()
    return left + (["in force again"] if made.in_force() else [])


def report(outcomes: list[Outcome], seed: int) -> str:
    """The table of docs/undo.md."""
    groups = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.trial.variant, outcome.trial.killed].append(outcome)
    lines = [
        "# Undo, proven", "",
        f"Written by `make chaos` on {datetime.now(UTC):%Y-%m-%d}: {len(outcomes)} SIGKILLs, seed {seed}, every step",
        "of the contract and random instants in turn. *Undo* is from the kill to the exact state of before; *late* is",
        f"against the effect's deadline ({_DURATION_S:g} s; bound +{BOUND_S:g} s), negative when it ended before.",
        "",
        "| fault | killed | trials | undo, worst | late, worst | residue |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for (variant, killed), rows in sorted(groups.items()):
        late = [row.late_s for row in rows if row.late_s is not None]
        lines.append(
            f"| {variant} | {killed} | {len(rows)} | {max(row.undo_s for row in rows):.2f} s "
            f"| {f'{max(late):+.2f} s' if late else 'never in force'} | {sum(bool(row.residue) for row in rows)} |"
        )
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=210)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    outcomes: list[Outcome] = []
    for at, trial in enumerate(trials(asked.trials, asked.seed), 1):
        outcome = attempt(trial)
        outcomes.append(outcome)
        late = "" if outcome.late_s is None else f", {outcome.late_s:+.2f} s against the deadline"
        print(f"[{at}/{asked.trials}] {trial}: undone in {outcome.undo_s:.2f} s{late}{_shame(outcome)}", flush=True)
    bad = [outcome for outcome in outcomes if not outcome.good]
    text = report(outcomes, asked.seed)
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    print(f"{len(outcomes)} kills, {len(bad)} bad; again: python -m tests.chaos.campaign --trials {asked.trials}"
          f" --seed {asked.seed}")  # fmt: skip
    return 1 if bad else 0


def _shame(outcome: Outcome) -> str:
    return "" if outcome.good else f"  BAD {'; '.join(outcome.residue)}"


if __name__ == "__main__":
    sys.exit(main())
