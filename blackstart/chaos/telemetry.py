"""The control that ties an experiment to a run: opens it, stops at the first broken step, closes it with the journal.

    controls:
      - name: telemetry
        provider: {type: python, module: blackstart.chaos.telemetry}

Invariant: after the experiment the run is closed and the engine's journal says what Blackstart's verdict is. Under
`blackstart run` the controller opens and closes the run, and this control only stops at a broken step.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from chaoslib.exceptions import InterruptExecution
from chaoslib.types import Dry

from blackstart.chaos import session
from protos.error import BlackstartError

logger: Final = logging.getLogger("chaostoolkit")
DECISIVE: Final = frozenset({"inject", "start_probe"})  # without these, going on would prove nothing
Json = dict[str, Any]


def before_experiment_control(context: Json, configuration: Json | None = None, **_: object) -> None:
    """Opens the run. A control's other exceptions are swallowed by the engine: hence the interruption."""
    if context.get("dry") == Dry.ACTIVITIES:
        return
    try:
        session.begin(context, configuration)
    except BlackstartError as error:
        raise InterruptExecution(str(error)) from error


def after_activity_control(context: Json, state: Json | None = None, keep_going: bool = False, **_: object) -> None:
    """Ends the method when an injection or a probe's start failed; the engine itself would go on.

    *keep_going*, an argument of the control in the file, leaves that to the verdict.
    """
    provider = context.get("provider", {})
    ours = provider.get("module") == "blackstart.chaos" and provider.get("func") in DECISIVE
    if ours and not keep_going and (state or {}).get("status") == "failed":
        reason = f"step {context.get('name')!r} failed: nothing after it would prove anything"
        if session.begun():
            session.current().aborted = reason
        raise InterruptExecution(reason)


def after_experiment_control(context: Json, state: Json | None = None, **_: object) -> None:
    """Closes the run, and writes its verdict into the journal, from which the engine takes its exit code."""
    del context
    journal = state if isinstance(state, dict) else {}
    _note_abort(journal)
    try:
        run = session.end(journal)
    except BlackstartError as error:
        journal["status"] = "failed"
        logger.error("The run could not be closed: %s. The controller reverts its effects.", error)  # noqa: TRY400
        return
    if run is None:
        return
    journal["blackstart"] = {"run_id": run.id, "verdict": run.verdict, "outcome": run.outcome, "reason": run.reason}
    journal["deviated"] = bool(journal.get("deviated")) or run.verdict == "deviated"
    if run.verdict != "held" and journal.get("status") == "completed" and not journal["deviated"]:
        journal["status"] = "failed"
    logger.info("Blackstart run %s: %s, %s", run.id, run.verdict or run.state, run.reason or run.outcome)


def cleanup_control() -> None:
    """Closes the run when an exception escaped the engine, which then calls nothing else."""
    after_experiment_control({}, {"status": "aborted", "deviated": False})


def _note_abort(journal: Json) -> None:
    if session.begun() and (reason := session.current().aborted):
        journal["blackstart"] = {"aborted": reason}
