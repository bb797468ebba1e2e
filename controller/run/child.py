"""The process of one run: the Chaos Toolkit engine over one experiment. Run as `python -m controller.run.child DIR`.

It reads DIR/order.json and leaves DIR/journal.json; on stdout it tells its steps, a JSON object a line. Invariant: the
journal is written however the engine ends, short of SIGKILL, and says in `blackstart_error` what escaped the engine.
It ends no effect: the controller does, in every case. It dies with the controller that started it.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Final

from chaoslib import PayloadEncoder
from chaoslib.experiment import run_experiment
from chaoslib.run import RunEventHandler
from chaoslib.types import Strategy

from controller.report.engine_journal import cause

Json = dict[str, Any]
PR_SET_PDEATHSIG: Final = 1
SETTINGS: Final[Json] = {"runtime": {"rollbacks": {"strategy": "always"}}}
EXIT_ESCAPED: Final = 3
LINGER_S: Final = 4.0  # of the supervisor's grace: SIGTERM during a Python action is swallowed by the engine


class Telling(RunEventHandler):  # type: ignore[misc]
    """Tells the supervisor of steps, and keeps the journal, which `run_experiment` loses when something escapes it."""

    def __init__(self) -> None:
        self.journal: Json = {}

    def started(self, experiment: Json, journal: Json) -> None:
        del experiment
        self.journal = journal

    def start_hypothesis_before(self, experiment: Json) -> None:
        del experiment
        say("hypothesis.started", "Checking the steady state before the method")

    def hypothesis_before_completed(self, experiment: Json, state: Json | None, journal: Json) -> None:
        del experiment, journal
        say("hypothesis.ended", _state("before", state))

    def start_hypothesis_after(self, experiment: Json) -> None:
        del experiment
        say("hypothesis.started", "Checking the steady state after the method")

    def hypothesis_after_completed(self, experiment: Json, state: Json | None, journal: Json) -> None:
        del experiment, journal
        say("hypothesis.ended", _state("after", state))

    def start_rollbacks(self, experiment: Json) -> None:
        if experiment.get("rollbacks"):
            say("rollback.started", "Playing the rollbacks")

    def start_activity(self, activity: Json) -> None:
        say("step.started", f"Step {activity.get('name')!r}")

    def activity_completed(self, activity: Json, run: Json) -> None:
        if run.get("status") != "succeeded":
            say("step.failed", f"Step {activity.get('name')!r} {run.get('status')}: {cause(run, 500)}")


def say(kind: str, message: str) -> None:
    print(json.dumps({"kind": kind, "message": message}), flush=True)


def _state(moment: str, state: Json | None) -> str:
    met = bool(state) and (state or {}).get("steady_state_met")
    return f"The steady state {'held' if met else 'did not hold'} {moment} the method"


def die_with_parent() -> None:
    """SIGKILL when the controller dies; at once if it has died already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(os.environ.get("BLACKSTART_PARENT", os.getppid())):
        sys.exit("the controller is gone")


def main(directory: Path) -> int:
    """Runs the order in *directory*; the exit code says only whether the engine itself came to its end."""
    die_with_parent()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    order = json.loads((directory / "order.json").read_text())
    telling = Telling()
    code, error = 0, ""
    signal.signal(signal.SIGINT, _interrupted)
    try:
        check_modules(order["experiment"], order["modules"])
        telling.journal = run_experiment(
            order["experiment"], settings=SETTINGS, experiment_vars=(order["variables"], {}),
            strategy=Strategy.DEFAULT, event_handlers=[telling],
        )  # fmt: skip
    except (Exception, KeyboardInterrupt, SystemExit) as escaped:  # noqa: BLE001 - the journal says what it was
        code, error = EXIT_ESCAPED, f"{type(escaped).__name__}: {escaped}"
    journal = telling.journal | ({"blackstart_error": error} if error else {})
    write_journal(directory / "journal.json", journal)
    return code


def write_journal(path: Path, journal: Json) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(journal, cls=PayloadEncoder, default=str))
    partial.replace(path)


def check_modules(experiment: Json, allowed: list[str]) -> None:
    """The linter has looked already; this is the last door before the import. PermissionError for any other module."""
    for module in modules_of(experiment):
        if not any(module == name or module.startswith(f"{name}.") for name in allowed):
            raise PermissionError(f"module {module!r} is not among those that an experiment may name")


def modules_of(document: object) -> set[str]:
    """Every `module` named anywhere in the experiment, in providers, controls and tolerances."""
    if isinstance(document, dict):
        own = {str(document["module"])} if document.get("type") == "python" and "module" in document else set()
        return own.union(*(modules_of(value) for value in document.values()))
    if isinstance(document, list):
        return set().union(*(modules_of(value) for value in document))
    return set()


def _interrupted(number: int, frame: object) -> None:
    """Stops, whatever the engine swallows: after LINGER_S the process is gone."""
    del number, frame
    threading.Timer(LINGER_S, os._exit, (EXIT_ESCAPED,)).start()
    raise KeyboardInterrupt


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(status)  # threads of the engine that still wait for something must not keep the run open
