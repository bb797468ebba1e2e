"""`blackstart-agent wrap`: runs a program whose clock a fault can skew later (`time.clock_skew`).

Until then it sees the node's own clock. The node's clock is never touched.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import click

from agent.system import preload
from protos.error import Problem, RefusedError, SpecError

_OTHER_FILES = (Path("/etc/faketimerc"), Path("~/.faketimerc"))


def run(name: str, command: tuple[str, ...], *, folder: str, library: str, monotonic: bool) -> NoReturn:
    """Becomes *command*, under libfaketime with an offset file `folder/name` that only a fault makes.

    Raises:
        SpecError: the name is not one, or there is no such program.
        RefusedError: no libfaketime here, or something else would skew the program's clock.
    """
    if not preload.NAME.fullmatch(name):
        raise SpecError(Problem("--name", f"{name!r} is not a name: letters, digits, '.', '_' and '-'"))
    path = library or preload.installed()
    if not path or not Path(path).exists():
        raise RefusedError(f"no libfaketime{f' at {path}' if path else ''}: install the package libfaketime")
    if skewing := [str(file) for file in _OTHER_FILES if file.expanduser().exists()]:
        raise RefusedError(f"{skewing[0]} would skew the program's clock all the time: remove it")
    place = _folder(folder)
    env = preload.environment(name, place, path, monotonic=monotonic, base=os.environ)
    if flaw := preload.flaw(env):
        click.echo(f"warning: under {path} {flaw}: take another build by --library", err=True)
    try:
        os.execvpe(command[0], command, env)  # noqa: S606 the point of it
    except OSError as error:
        raise SpecError(Problem("command", f"cannot run {command[0]}: {error.strerror}")) from error


def _folder(asked: str) -> str:
    """Where the offset file will be: only its owner, and root, may put anything there."""
    own = f"{os.environ.get('XDG_RUNTIME_DIR') or f'/tmp/blackstart-{os.getuid()}'}/blackstart/clock"  # noqa: S108
    place = Path(asked or (preload.FOLDER if os.getuid() == 0 else own))
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise RefusedError(f"cannot make {place}: {error.strerror}: name another by --folder") from error
    if place.stat().st_uid not in (0, os.getuid()):
        raise RefusedError(f"{place} belongs to somebody else: name another by --folder")
    return str(place.resolve())
