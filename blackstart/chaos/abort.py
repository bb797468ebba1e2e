"""The control that ends an experiment early: on a condition that a probe meets, or when the controller aborts the run.

    controls:
      - name: abort
        provider:
          type: python
          module: blackstart.chaos.abort
          arguments:
            conditions:
              - {probe: viewer, measure: success_fraction, below: 0.5, for_s: 10}

Invariant: what the run injected is reverted before the engine is interrupted, and the engine is interrupted once. A
probe that does not answer meets no condition: the agent's deadline and the controller's lease look after that case.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any, Final, Literal

from chaoslib.exceptions import InterruptExecution, InvalidActivity
from chaoslib.exit import exit_gracefully

from blackstart.chaos import session
from protos.error import BlackstartError

logger: Final = logging.getLogger("chaostoolkit")
POLL_S: Final = 0.5
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """*probe*'s *measure* is *side* the *bound* for *for_s* seconds without a break."""

    probe: str
    bound: float
    side: Literal["below", "above"]
    measure: str = "success_fraction"
    for_s: float = 0.0
    window_s: float = 1.0

    def met(self, value: float) -> bool:
        return value < self.bound if self.side == "below" else value > self.bound

    def __str__(self) -> str:
        return f"{self.measure} of probe {self.probe} {self.side} {self.bound:g} for {self.for_s:g} s"


def conditions_from(rows: object) -> list[Condition]:
    """The conditions of the control's argument; InvalidActivity names each that is wrong."""
    if not isinstance(rows, list):
        raise InvalidActivity("blackstart.chaos.abort: conditions must be a list")
    made, wrong = [], []
    for index, row in enumerate(rows):
        try:
            made.append(_condition(row))
        except (TypeError, ValueError) as error:
            wrong.append(f"conditions[{index}]: {error}")
    if wrong:
        raise InvalidActivity("blackstart.chaos.abort: " + "; ".join(wrong))
    return made


def validate_control(control: Json) -> None:
    """Called by the engine when it validates the experiment."""
    conditions_from(control["provider"].get("arguments", {}).get("conditions", []))


def before_experiment_control(context: Json, conditions: object = (), poll_s: float = POLL_S, **_: object) -> None:
    """Starts to watch; needs the run, and opens it if no other control did."""
    if context.get("dry"):
        return
    try:
        wanted = conditions_from(list(conditions) if isinstance(conditions, tuple) else conditions)
        current = session.begin(context)
    except (BlackstartError, InvalidActivity) as error:
        raise InterruptExecution(str(error)) from error
    watcher = Watcher(current, wanted, float(poll_s))
    current.before_close.append(watcher.stop)
    watcher.start()


def before_rollback_control(context: Json, **_: object) -> None:
    """Rollbacks are not interrupted."""
    del context
    if session.begun():
        for stop in session.current().before_close:
            stop()


class Watcher:
    """Asks the probes on a thread of its own, and hears from the session when the controller has ended the run."""

    def __init__(self, current: session.Session, conditions: list[Condition], poll_s: float) -> None:
        self._session = current
        self._conditions = conditions
        self._poll_s = poll_s
        self._over = threading.Event()
        self._firing = threading.Lock()
        self._deciding = threading.Lock()

    def start(self) -> None:
        if self._conditions:
            threading.Thread(target=self._ask, name="abort-conditions", daemon=True).start()
        self._session.when_over.append(self._ended)

    def stop(self) -> None:
        """No interruption is begun after this has returned; a revert that is under way is waited for."""
        with self._deciding:
            self._over.set()
        with self._firing:
            return

    def _ask(self) -> None:
        since: dict[Condition, float] = {}
        while not self._over.wait(self._poll_s):
            for condition in self._conditions:
                value = self._value(condition)
                if value is None or not condition.met(value):
                    since.pop(condition, None)
                elif time.monotonic() - since.setdefault(condition, time.monotonic()) >= condition.for_s:
                    self._fire(f"abort condition met: {condition} (last value {value:g})", revert=True)
                    return

    def _value(self, condition: Condition) -> float | None:
        arguments = {"probe": condition.probe, "measure": condition.measure, "window_s": condition.window_s}
        try:
            return float(self._session.client.invoke(self._session.run_id, "observe", arguments))
        except (BlackstartError, ValueError) as error:  # ValueError: the channel was closed meanwhile
            logger.debug("No value for %s: %s", condition, error)
            return None

    def _ended(self, reason: str) -> None:
        self._fire(reason, revert=False)

    def _fire(self, reason: str, *, revert: bool) -> None:
        with self._firing:
            if self._over.is_set():
                return
            self._session.aborted = reason
            logger.warning("Interrupting the experiment: %s", reason)
            if revert:
                self._revert()
            with self._deciding:
                if not self._over.is_set():
                    self._over.set()
                    exit_gracefully()

    def _revert(self) -> None:
        try:
            self._session.client.invoke(self._session.run_id, "revert", {"name": None})
        except (BlackstartError, ValueError) as error:
            logger.error("Not reverted yet: %s. The run's end does it.", error)  # noqa: TRY400


def _condition(row: object) -> Condition:
    if not isinstance(row, dict):
        raise TypeError(f"must be a mapping, not {row!r}")
    fields = dict(row)
    sides = [side for side in ("below", "above") if side in fields]
    if len(sides) != 1:
        raise ValueError("exactly one of below and above is needed")
    unknown = set(fields) - {"probe", "measure", "below", "above", "for_s", "window_s"}
    if unknown or not fields.get("probe"):
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}" if unknown else "probe is missing")
    side: Literal["below", "above"] = "below" if sides[0] == "below" else "above"
    return Condition(
        probe=str(fields["probe"]),
        bound=float(fields[side]),
        side=side,
        measure=str(fields.get("measure", "success_fraction")),
        for_s=float(fields.get("for_s", 0)),
        window_s=float(fields.get("window_s", 1)),
    )
