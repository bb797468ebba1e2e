"""`blackstart services`: a set of test services in the foreground, and commands that run where it does."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from pathlib import Path
from typing import Final, NoReturn

from blackstart.local import kernel, service_file
from blackstart.local.cluster import bed as cluster_bed
from blackstart.local.folder import emptied
from blackstart.local.services import CONTROLLER, ServiceBed
from blackstart.local.switch import available, enter_switch
from protos.error import Exit, Problem, RefusedError, SpecError

_WATCH_S: Final = 0.2
_MARK: Final = ".blackstart-services"


def up(file: Path, state: Path, variables: dict[str, str]) -> int:
    """`blackstart services up`: the set until Ctrl-C."""
    described = service_file.load(file, variables)
    if lacks := available():
        raise RefusedError(f"test services {lacks}")
    enter_switch()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs inherit SIGINT as ignored
        signal.signal(number, signal.default_int_handler)
    state = state.absolute()
    _fresh(state)
    try:
        with ServiceBed(described, state, lambda line: print(line, flush=True)) as bed:
            (state / "bed.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
            print(f"{described.title}: state {state}")
            print(
                "in another terminal: `blackstart services exec -- blackstart agents list`. Ctrl-C ends it.", flush=True
            )
            while True:
                time.sleep(_WATCH_S)
                bed.watch(time.monotonic())
    except KeyboardInterrupt:
        print("stopping: every effect is reverted first")
    finally:
        (state / "bed.pid").unlink(missing_ok=True)
    return int(Exit.HELD)


def _fresh(state: Path) -> None:
    """An empty state directory: what test services kept from before would be of another cluster."""
    if (state / "bed.pid").exists():
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((state / "bed.pid").read_text(encoding="ascii")), 0)
            raise RefusedError(f"services run already with state {state}: end them, or name another by --state")
    emptied(state, _MARK, 0o755)


def run_inside(state: Path, command: list[str]) -> NoReturn:
    """Becomes *command* where the services of *state* run: signals reach it, and its end is ours."""
    try:
        descriptor = os.pidfd_open(int((state / "bed.pid").read_text(encoding="ascii")))
        kernel.setns(descriptor, kernel.CLONE_NEWNET)
    except (OSError, ValueError) as error:
        remedy = "start them by `blackstart services up FILE`, and be root here, too"
        raise RefusedError(f"no services run with state {state}: {remedy}") from error
    os.close(descriptor)
    try:
        os.execvpe(command[0], command, {**os.environ, **environment(state)})  # noqa: S606 a fixed list, no shell wanted
    except OSError as error:
        lacks = error.errno == errno.ENOENT
        what = f"there is no program {command[0]!r}" if lacks else f"{command[0]}: {error.strerror}"
        raise SpecError(Problem("services exec", what)) from error


def environment(state: Path) -> dict[str, str]:
    """Where a client finds the controller of these services, and their cluster."""
    certs = state.absolute() / "controller" / "admin"
    found = {"BLACKSTART_CONTROLLER": CONTROLLER, "BLACKSTART_CERTS": str(certs)}
    return found | cluster_bed.environment(state)
