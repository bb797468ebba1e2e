"""Self-chaos: SIGKILL of agent, guardian, both, or everybody, at every step of the contract and at random instants.

`python -m tests.chaos.campaign [--trials N] [--kinds PATTERN] [--seed S] [--workers W] [--out docs/undo.md]`. Every
trial has a target of its own, puts a real fault in force, kills, and then watches from outside: when is the effect
gone, is the state exactly as before? Then the agent's next start must find nothing left to end. Exit code 1 if any
effect outlives its deadline by more than 0.5 s or leaves a residue.

*Everybody* is agent, guardian and holders at the same instant; what the kernel does not undo is then ended by the
agent's next start, which a service manager makes at once: those rows have no lateness, only the time until undone.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import fnmatch
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.journal import Journal
from tests.chaos import case as cases
from tests.chaos.outcome import BOUND_S, Outcome, Trial, table
from tests.chaos.victim import STEPS

_DURATION_S = 1.2
_GIVE_UP_S = 10.0
_SETTLE_S = 2.0
VARIANTS = cases.variants()
KILLED = ("agent", "guardian", "both", "everybody")


def trials(count: int, seed: int, pattern: str = "*") -> Iterator[Trial]:
    """Every variant and killed part in turn, gates and random instants alternating; the same for the same seed."""
    chance = random.Random(seed)
    names = [
        name for name, (kind, _) in VARIANTS.items() if fnmatch.fnmatchcase(name, pattern) and not cases.missing(kind)
    ]
    pairs = [(name, killed) for name in names for killed in KILLED]
    steps = [chance.sample(STEPS, len(STEPS)) for _ in pairs]  # each pair goes through them in an order of its own
    for at in range(count if pairs else 0):
        variant, killed = pairs[at % len(pairs)]
        lap = at // len(pairs)
        if lap % 2 == 0:
            yield Trial(variant, killed, step=steps[at % len(pairs)][lap // 2 % len(STEPS)])
        else:
            yield Trial(variant, killed, after_s=chance.uniform(0.0, _lasts_s(VARIANTS[variant][0]) + 0.6))


def _lasts_s(kind: str) -> float:
    return cases.SUBJECTS[kind].lasts_s


class Subject:
    """One gated victim, seen from outside."""

    def __init__(self, state: Path, made: cases.Case, *, gated: bool) -> None:
        self.deadline_ns = 0
        self.guardian = 0
        self.undo = ""
        arguments = [str(state), made.kind, json.dumps(made.spec), str(_lasts_s(made.kind)), str(int(gated))]
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
            self.undo = message.get("undo") or self.undo
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
        return next(iter(self._children("agent.guardian")), self.guardian)

    def holder_pids(self) -> list[int]:
        return self._children("agent.faults.hold")

    def _children(self, module: str) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = []
        for pid in children.read_text(encoding="ascii").split() if children.exists() else []:
            with contextlib.suppress(OSError):
                if module in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8"):
                    found.append(int(pid))
        return found

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
                gone_ns = _look_on(made, before, subject) or gone_ns
            by_start = trial.killed in ("both", "everybody") and subject.undo != "kernel"
            started = _next_start(Path(folder), made) if by_start else []
            gone_ns = _gone(made, before) or gone_ns
            measured = bool(subject.deadline_ns and gone_ns and not by_start)
            late_s = (gone_ns - subject.deadline_ns) / 1e9 if measured else None
        finally:
            subject.close()
        residue = [*started, *_audit(made, before), *_next_start(Path(folder), made)]
        undo_s = 0.0 if trial.killed == "guardian" else max(0.0, gone_ns / 1e9 - killed_s)  # the agent goes on
        return Outcome(trial, undo_s, late_s, tuple(residue))


def _kill(which: str, subject: Subject) -> None:
    doomed = [subject.process.pid] if which != "guardian" else []
    if which != "agent" and (guardian := subject.guardian_pid()):
        doomed.append(guardian)
    if which == "everybody":
        doomed += subject.holder_pids()
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):  # it had ended already
            os.kill(pid, signal.SIGKILL)


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


def _look_on(made: cases.Case, before: dict[str, Any], subject: Subject) -> int:
    """The instant of the state as before again while the victim goes on to its end; 0 if it never changed."""
    thread = threading.Thread(target=subject.run_to, args=("",))
    subject.answer()
    thread.start()
    changed, back_ns = False, 0
    while thread.is_alive():
        now_changed = made.comparable() != before
        if changed and not now_changed:
            back_ns = time.monotonic_ns()
        changed = now_changed
        thread.join(0.01)
    return 0 if changed else back_ns


def _gone(made: cases.Case, before: dict[str, Any]) -> int:
    """The instant at which the state is as before again; 0 if it is so already. Gives up after 10 s: then it is now."""
    give_up, waited = time.monotonic() + _GIVE_UP_S, False
    while (made.comparable() != before) and time.monotonic() < give_up:
        waited = True
        time.sleep(0.01)
    return time.monotonic_ns() if waited else 0


def _audit(made: cases.Case, before: dict[str, Any]) -> list[str]:
    """What differs, once a holder that was still starting has had time to see that nobody is there any more."""
    until = time.monotonic() + _SETTLE_S
    while (now := made.comparable()) != before and time.monotonic() < until:
        time.sleep(0.02)
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


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1100)
    parser.add_argument("--kinds", default="*", help="pattern over the names in docs/undo.md")
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--workers", type=int, default=3, help="trials at the same time")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    outcomes: list[Outcome] = []
    planned = list(trials(asked.trials, asked.seed, asked.kinds))
    for at, outcome in enumerate(carried_out(planned, asked.workers), 1):
        outcomes.append(outcome)
        late = "" if outcome.late_s is None else f", {outcome.late_s:+.2f} s against the deadline"
        print(f"[{at}/{len(planned)}] {outcome.trial}: undone in {outcome.undo_s:.2f} s{late}{_shame(outcome)}",
              flush=True)  # fmt: skip
    bad = [outcome for outcome in outcomes if not outcome.good]
    text = table(outcomes, asked.seed, _DURATION_S, BOUND_S)
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    print(f"{len(outcomes)} kills, {len(bad)} bad; again: python -m tests.chaos.campaign --trials {asked.trials}"
          f" --seed {asked.seed} --kinds '{asked.kinds}'")  # fmt: skip
    return 1 if bad or not outcomes else 0


def carried_out(planned: list[Trial], workers: int) -> Iterator[Outcome]:
    """The outcomes, in the order in which they come; each worker marks what it starts as its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_mark) as pool:
        waiting = {pool.submit(_attempted, trial) for trial in planned}
        try:
            for done in concurrent.futures.as_completed(waiting):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _mark() -> None:
    os.environ["BLACKSTART_TEST"] = str(os.getpid())


def _attempted(trial: Trial) -> Outcome:
    """A trial that breaks is a bad one: it says why, and the others go on."""
    try:
        return attempt(trial)
    except Exception as error:  # noqa: BLE001 shown in the table
        return Outcome(trial, 0.0, None, (f"the trial broke: {type(error).__name__}: {error}",))


def _shame(outcome: Outcome) -> str:
    late = "" if outcome.late_s is None or outcome.late_s <= BOUND_S else "late "
    return "" if outcome.good else f"  BAD {late}{'; '.join(outcome.residue)}"


if __name__ == "__main__":
    sys.exit(main())
