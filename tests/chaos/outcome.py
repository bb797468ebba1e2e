"""What a trial of self-chaos is, what came of it, and the table of docs/undo.md."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime

BOUND_S = 0.5


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


def table(outcomes: list[Outcome], seed: int, duration_s: float, bound_s: float) -> str:
    """docs/undo.md."""
    groups = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.trial.variant, outcome.trial.killed].append(outcome)
    late = [outcome.late_s for outcome in outcomes if outcome.late_s is not None]
    worst = f"{max(late):+.2f} s" if late else "none measured"
    left = sum(bool(outcome.residue) for outcome in outcomes)
    lines = [
        "# Undo, proven", "",
        f"Written by `make chaos` on {datetime.now(UTC):%Y-%m-%d}: {len(outcomes)} SIGKILLs, seed {seed}, every step",
        "of the contract and random instants in turn. *Undo* is from the kill to the exact state of before; *late* is",
        f"against the effect's deadline ({duration_s:g} s; bound +{bound_s:g} s), negative when it ended before.",
        "*Everybody* is agent, guardian and holders at one instant. What the kernel does not undo is then ended by the",
        "agent's next start, which follows at once, as a service manager makes it: those rows have no lateness.", "",
        f"Worst over all: {worst} against the deadline; residue in {left} trials.",
        "", "| fault | killed | trials | undo, worst | late, worst | residue |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for (variant, killed), rows in sorted(groups.items()):
        measured = [row.late_s for row in rows if row.late_s is not None]
        lines.append(
            f"| {variant} | {killed} | {len(rows)} | {max(row.undo_s for row in rows):.2f} s "
            f"| {f'{max(measured):+.2f} s' if measured else '-'} | {sum(bool(row.residue) for row in rows)} |"
        )
    return "\n".join([*lines, ""])
