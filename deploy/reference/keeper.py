"""Runs supervisord in this process, tied to the life of the farm.

Invariant: when this process dies, in whatever way, so do the programs that it keeps.

Usage: keeper.py CONFIGURATION
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lifeline import die_with_parent

if TYPE_CHECKING:
    from settings import Settings

STOP_WAIT_S: Final = 1  # after which a program that ignores SIGTERM (because it is frozen) is killed
_HERE: Final = Path(__file__).resolve().parent


def configuration(settings: Settings, settings_file: Path) -> str:
    """What supervisord needs to know.

    `startsecs = 0` makes every exit an ordinary one: the program is started again at supervisord's next tick, at most
    one second later, however often it dies; with `startsecs = 1` a program that is killed within its first second
    would wait longer each time and be given up after `startretries`. Paths of files are relative to the farm's
    directory, where supervisord is started, because it expands some of them twice and `%` would not survive that.
    """
    sections = [
        "[supervisord]",
        "nodaemon = true",
        f"logfile = log/supervisord-{settings.part}.log",
        "logfile_maxbytes = 1MB",
        "logfile_backups = 1",
        f"pidfile = run/supervisord-{settings.part}.pid",
        "childlogdir = log",
    ]
    for name in settings.programs():
        kind, _, number = name.partition("-")
        words = [sys.executable, str(_HERE / f"{kind}.py"), str(settings_file), *([number] * bool(number))]
        sections += [
            f"[program:{name}]",
            f"command = {shlex.join(words).replace('%', '%%')}",
            "autostart = true",
            "autorestart = true",
            "startsecs = 0",
            "stopsignal = TERM",
            f"stopwaitsecs = {STOP_WAIT_S}",
            "redirect_stderr = true",
            f"stdout_logfile = log/{name}.log",
            "stdout_logfile_maxbytes = 1MB",
            "stdout_logfile_backups = 1",
        ]
    return "\n".join(sections) + "\n"


def main() -> None:
    die_with_parent()
    os.environ["FARM_PARENT"] = str(os.getpid())
    from supervisor import supervisord

    supervisord.main(["-c", sys.argv[1]])


if __name__ == "__main__":
    main()
