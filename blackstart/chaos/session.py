"""The run that this process belongs to, and its one client.

Invariant: at most one run a process; a run that was opened here is closed here, however the process ends, unless it is
killed: then the controller notices and closes it.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from blackstart.client import Client, Json
from blackstart.settings import resolve
from protos.error import BlackstartError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from protos import blackstart_operator_pb2 as pb

logger: Final = logging.getLogger("chaostoolkit")
CLOSE_S: Final = 120.0  # a run whose effects cannot be reverted by then is left to the controller
OVER: Final = frozenset({"closing", "ended"})
UNLISTED: Final[Json] = {
    "version": "1.0.0",
    "title": "chaos run",
    "description": "Driven by an experiment that does not list the control blackstart.chaos.telemetry.",
    "method": [],
}


@dataclass(slots=True)
class Session:
    """The run. *owned*: opened by this process, which therefore closes it."""

    client: Client
    run_id: str
    owned: bool
    probes: set[str] = field(default_factory=set)  # started by this process
    aborted: str = ""  # why the experiment was interrupted
    closing: bool = False
    before_close: list[Callable[[], None]] = field(default_factory=list)
    when_over: list[Callable[[str], None]] = field(default_factory=list)  # the controller ended the run, and why


_sessions: Final[list[Session]] = []  # none or one


def current() -> Session:
    """The session; joined or opened now if nothing did before."""
    return _sessions[0] if _sessions else begin(UNLISTED)


def begun() -> bool:
    """Whether there is a session."""
    return bool(_sessions)


def begin(experiment: Mapping[str, Any], variables: Mapping[str, Any] | None = None) -> Session:
    """Joins the run that BLACKSTART_RUN names, else opens one for *experiment*."""
    if _sessions:
        return _sessions[0]
    settings = resolve()
    client = Client(settings)
    if settings.run:
        session = Session(client, settings.run, owned=False)
    else:
        document = {key: value for key, value in experiment.items() if key != "dry"}
        given = {key: str(value) for key, value in (variables or {}).items() if isinstance(value, str | int | float)}
        try:
            run = client.open_run(document, source="chaos run", variables=given)
        except BlackstartError:
            client.close()
            raise
        session = Session(client, run.id, owned=True)
        logger.info("Blackstart run %s opened on %s", run.id, settings.controller)
        threading.Thread(target=_follow, args=(session,), name="blackstart-events", daemon=True).start()
    _sessions.append(session)
    atexit.register(_at_exit)
    return session


def end(journal: Json) -> pb.Run | None:
    """Closes the run with *journal* and waits until its effects are reverted; None if it was not opened here."""
    if not _sessions or _sessions[0].closing:
        return None
    session = _sessions[0]
    session.closing = True
    try:
        for callback in session.before_close:
            callback()
        return _ended(session, journal) if session.owned else None
    finally:
        session.client.close()
        _sessions.clear()


def _ended(session: Session, journal: Json) -> pb.Run:
    try:
        run = session.client.close_run(session.run_id, journal)
    except RefusedError:  # the controller ended it before
        run, _ = session.client.show(session.run_id)
        if run.state not in OVER:
            raise
    give_up_s = time.monotonic() + CLOSE_S
    while run.state != "ended" and time.monotonic() < give_up_s:
        time.sleep(0.1)
        run, _ = session.client.show(session.run_id)
    return run


def _follow(session: Session) -> None:
    """Follows the run: the open stream tells the controller that its driver lives, and us when the run was ended."""
    try:
        for event in session.client.watch(session.run_id):
            if session.closing:
                return
            if event.kind.startswith("run.") and session.client.show(session.run_id)[0].state in OVER:
                for callback in session.when_over:
                    callback(f"the controller ended the run: {event.message or event.kind}")
                return
    except (BlackstartError, ValueError) as error:  # ValueError: the channel was closed meanwhile
        logger.debug("The run's events are no longer followed: %s", error)


def _at_exit() -> None:
    """Ends what the control did not: the file does not list it, or an exception escaped the engine."""
    try:
        end({"status": "aborted", "deviated": False, "run": [], "rollbacks": []})
    except BlackstartError as error:
        logger.error("The run could not be closed: %s. The controller reverts its effects.", error)  # noqa: TRY400
