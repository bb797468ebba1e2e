"""`blackstart run --trials N`: the same experiment again and again, and its distribution."""

from __future__ import annotations

import math
import random
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from blackstart.cli.live import Followed, exit_of
from blackstart.cli.output import console, document, print_json, print_table
from blackstart.trials import Spread, spreads, strip
from protos.error import Exit

if TYPE_CHECKING:
    from blackstart.client import Client


def run_trials(client: Client, experiment: Any, submission: Any, count: int, settle_s: float, *, as_json: bool) -> Exit:
    """Runs the experiment *count* times; the worst exit code. After Ctrl-C what there is."""
    runs, documents, codes = [], [], []
    out = console(error=as_json)
    for number in range(1, count + 1):
        out.print(f"trial {number} of {count}", style="bold")
        ended, aborted = Followed(
            client, client.submit(experiment, **submission).id, to_stderr=as_json
        ).watch_or_abort()
        runs.append(ended)
        documents.append(client.show(ended.id)[1])
        codes.append(exit_of(ended, aborted=aborted))
        if aborted or ended.stranded:
            break
        if number < count:
            try:
                # At a random phase of the system's own timers, each trial another one.
                time.sleep(settle_s + random.random())  # noqa: S311
            except KeyboardInterrupt:
                break
    found = spreads(documents)
    if as_json:
        print_json({"runs": [document(run) for run in runs], "spreads": [asdict(one) for one in found]})
    else:
        _show(found, documents)
    return next(
        (worst for worst in (Exit.STRANDED, Exit.DEVIATED, Exit.INCONCLUSIVE) if worst in codes),
        Exit.HELD if len(codes) == count else Exit.INCONCLUSIVE,
    )


def _interval(one: Spread) -> str:
    if math.isnan(one.median_lo_s):
        return "takes 6 trials"
    return f"[{one.median_lo_s:.2f}, {one.median_hi_s:.2f}]"


def _show(found: list[Spread], documents: list[Any]) -> None:
    print_table(
        ("recovery", "trials", "missed", "min", "median", "95 % of median", "p95", "max", "each within", "lost"),
        [
            (
                f"{one.probe} after {one.after}", f"{one.measured} of {one.trials}", str(one.missed),
                *(f"{value:.2f} s" for value in (one.least_s, one.median_s)),
                _interval(one),
                *(f"{value:.2f} s" for value in (one.p95_s, one.most_s)), f"±{one.error_s:.2f} s",
                f"{one.lost} of {one.acknowledged}",
            )
            for one in found
        ],
        "no recovery was measured",
    )  # fmt: skip
    for one in found:
        values = [
            entry["recovery"]["value"] for row in documents for entry in row.get("recoveries", ())
            if (entry["probe"], entry["after"]) == (one.probe, one.after) and entry.get("recovery")
        ]  # fmt: skip
        if plot := strip(values):
            console().print(f"0 s |{plot}| {one.most_s:.2f} s", soft_wrap=True)
        if one.phases:
            told = " + ".join(f"{name} {took:.2f} s" for name, took in one.phases.items())
            console().print(f"median of each phase: {told}", soft_wrap=True)
