"""`blackstart run --trials N`: the same experiment again and again, and its distribution."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blackstart.cli.live import Followed, exit_of
from blackstart.cli.output import console, document, print_json, print_table
from blackstart.trials import Spread, compare, spreads, strip
from protos.error import Exit, Problem, SpecError

if TYPE_CHECKING:
    from blackstart.client import Client


_REMEDY: Final = "write one by: blackstart run FILE --trials 20 --json > FILE"


@dataclass(frozen=True, slots=True)
class Trials:
    """How often, how far apart, and beside what."""

    count: int
    settle_s: float
    earlier: list[dict[str, Any]]  # spreads of a baseline; empty: none
    files: dict[str, Path | None]  # by format: reports to write

    def run(self, client: Client, experiment: Any, submission: Any, *, as_json: bool) -> Exit:
        """Runs the experiment so often; the worst exit code. After Ctrl-C what there is."""
        runs, codes = self._run_all(client, experiment, submission, as_json=as_json)
        documents = [client.show(run.id)[1] for run in runs]
        found = spreads(documents)
        compared = compare(found, self.earlier) if self.earlier else []
        if as_json:
            rows = {"runs": [document(run) for run in runs], "spreads": [_plain(one) for one in found]}
            print_json(rows | ({"comparisons": [_plain(one) for one in compared]} if compared else {}))
        else:
            _show(found)
            _verdicts(runs)
            for one in compared:
                console().print(f"{one.probe} after {one.after}: {one.words}", style="red" if one.worse else "")
        for form, path in self.files.items():
            if path is not None and runs:
                title = f"{runs[0].title}, {len(runs)} trials"
                path.write_bytes(client.report([run.id for run in runs], form, title)[1])
                console(error=as_json).print(f"{form}: {path}")
        if any(one.worse for one in compared):
            codes.append(Exit.DEVIATED)
        return next(
            (worst for worst in (Exit.STRANDED, Exit.DEVIATED, Exit.INCONCLUSIVE) if worst in codes),
            Exit.HELD if len(runs) == self.count else Exit.INCONCLUSIVE,
        )

    def _run_all(
        self, client: Client, experiment: Any, submission: Any, *, as_json: bool
    ) -> tuple[list[Any], list[Exit]]:
        runs, codes = [], []
        out = console(error=as_json)
        for number in range(1, self.count + 1):
            out.print(f"trial {number} of {self.count}", style="bold")
            submitted = client.submit(experiment, **submission)
            ended, aborted = Followed(client, submitted.id, to_stderr=as_json).watch_or_abort()
            runs.append(ended)
            codes.append(exit_of(ended, aborted=aborted))
            if aborted or ended.stranded:
                break
            if number < self.count:
                try:
                    # At a random phase of the system's own timers, each trial another one.
                    time.sleep(self.settle_s + random.random())  # noqa: S311
                except KeyboardInterrupt:
                    break
        return runs, codes


def read_baseline(path: Path | None) -> list[dict[str, Any]]:
    """Spreads of earlier trials, as `--json` wrote them; SpecError where the file is something else."""
    if path is None:
        return []
    try:
        rows = [row | {"values": list(map(float, row["values"]))} for row in json.loads(path.read_bytes())["spreads"]]
        if rows and all(isinstance(row["probe"], str) and isinstance(row["after"], str) for row in rows):
            return rows
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(Problem(f"--baseline {path}", f"no earlier trials: {error}", _REMEDY)) from error
    raise SpecError(Problem(f"--baseline {path}", "holds no recovery times", _REMEDY))


def writable(option: str, path: Path | None) -> Path | None:
    """*path*, once it is known that the report can be written there: not found out after an hour of trials."""
    if path is not None:
        there = path.exists()
        try:
            path.open("ab").close()
            if not there:
                path.unlink()  # what is interrupted leaves no empty report
        except OSError as error:
            raise SpecError(Problem(f"{option} {path}", f"cannot be written: {error.strerror}")) from error
    return path


def _plain(one: Any) -> dict[str, Any]:
    """For JSON, which knows neither inf nor nan: null for what was not reached or cannot be told."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(one).items()
    }


def _seconds(value: float) -> str:
    return "not reached" if math.isinf(value) else "-" if math.isnan(value) else f"{value:.2f} s"


def _interval(one: Spread) -> str:
    if math.isnan(one.median_lo_s):
        return "takes 6 trials"
    return f"{_seconds(one.median_lo_s)} to {_seconds(one.median_hi_s)}"


def _verdicts(runs: list[Any]) -> None:
    """How the trials ended, and why those did that did not hold, each reason once."""
    counts = Counter(run.verdict or "aborted" for run in runs)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    console().print(f"{len(runs)} trials: {told or 'none'}", style="bold")
    for reason, count in Counter(run.reason for run in runs if run.verdict != "held").items():
        console().print(f"  {count} x {reason}", soft_wrap=True)


def _show(found: list[Spread]) -> None:
    print_table(
        ("recovery", "trials", "missed", "min", "median", "95 % of median", "p95", "max", "each within", "lost"),
        [
            (
                f"{one.probe} after {one.after}", f"{one.measured} of {one.trials}", str(one.missed),
                *map(_seconds, (one.least_s, one.median_s)),
                _interval(one),
                *map(_seconds, (one.p95_s, one.most_s)), f"±{_seconds(one.error_s)}",
                f"{one.lost} of {one.acknowledged}" if one.acknowledged else "-",
            )
            for one in found
        ],
        "no recovery was measured",
    )  # fmt: skip
    for one in found:
        if plot := strip(one.values):
            console().print(f"0 s |{plot}| {one.values[-1]:.2f} s", soft_wrap=True)
        if one.phases:
            told = " + ".join(f"{name} {took:.2f} s" for name, took in one.phases.items())
            console().print(f"median of each phase: {told}", soft_wrap=True)
