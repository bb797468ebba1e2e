"""Which processes a fault means.

Invariant: a target is an identity (pid and start time), resolved at planning and checked again at the moment of use.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from agent.system import proc
from protos.error import Problem, SpecError


class ProcessSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Exactly one of *pid_file*, *pid* and *pattern* names the processes; with *tree*, their descendants too."""

    pid_file: Annotated[str, Meta(description="file that holds the target's pid")] = ""
    pid: Annotated[int, Meta(ge=0, description="the target's pid")] = 0
    pattern: Annotated[str, Meta(description="regular expression, searched in the command lines")] = ""
    tree: Annotated[bool, Meta(description="the targets' descendants too")] = True


def resolve(spec: ProcessSpec) -> list[proc.Identity]:
    """The root processes that *spec* names, at least one; SpecError says what was looked for otherwise."""
    named = [bool(spec.pid_file), bool(spec.pid), bool(spec.pattern)]
    if sum(named) != 1:
        raise SpecError(Problem("spec", "exactly one of pid_file, pid and pattern must name the target"))
    if spec.pattern:
        return _matching(spec.pattern)
    pid = spec.pid or _read(spec.pid_file)
    identity = proc.identify(pid) if pid > 0 else None
    if identity is None:
        source = f"pid_file {spec.pid_file} says {pid}" if spec.pid_file else f"pid {pid}"
        raise SpecError(Problem("spec", f"no such process: {source}", "zero targets is never a success"))
    return [identity]


def _read(path: str) -> int:
    try:
        return int(Path(path).read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise SpecError(Problem("spec.pid_file", f"cannot read a pid from {path}: {error}")) from error


def _matching(pattern: str) -> list[proc.Identity]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SpecError(Problem("spec.pattern", f"not a regular expression: {error}")) from error
    ours = {os.getpid(), os.getppid()}
    matched = [
        identity
        for pid in proc.pids()
        if pid not in ours and (line := proc.command_line(pid)) and compiled.search(line)
        if (identity := proc.identify(pid))
    ]
    if not matched:
        raise SpecError(Problem("spec.pattern", f"no process's command line matches {pattern!r}"))
    children = {member.pid for one in matched for member in proc.tree(one)[1:]}
    return [one for one in matched if one.pid not in children]


def describe(roots: list[proc.Identity], members: int) -> str:
    """For a human: `encode-worker (pid 4711), 3 processes`."""
    named = ", ".join(f"{one.name} (pid {one.pid})" for one in roots)
    return f"{named}, {members} process{'es' if members > 1 else ''}"
