"""Which processes a fault means.

Invariant: a target is an identity (pid and start time), resolved at planning and checked again at the moment of use.
"""

from __future__ import annotations

import os
import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from agent.system import proc, small_file
from protos.error import Problem, SpecError

_PID_BYTES: Final = 32
_MATCH_S: Final = 0.5  # for all processes of the node together; the agent does nothing else meanwhile


class ProcessSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Exactly one of *pid_file*, *pid* and *pattern* names the processes; with *tree*, their descendants too."""

    pid_file: Annotated[str, Meta(description="file that holds the target's pid")] = ""
    pid: Annotated[int, Meta(ge=0, description="the target's pid")] = 0
    pattern: Annotated[str, Meta(max_length=1000, description="regular expression, searched in the command lines")] = ""
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
    """The pid in a regular file. What else may stand there is told to nobody, and a pipe is not waited for."""
    try:
        text = small_file.read(path, _PID_BYTES).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SpecError(Problem("spec.pid_file", f"cannot read {path!r}: {reason}")) from error
    if not text.isdigit():
        raise SpecError(Problem("spec.pid_file", f"{path} does not hold a pid", "a pid_file holds one number"))
    return int(text)


def _matching(pattern: str) -> list[proc.Identity]:
    """Searched by a library that gives up in time: a pattern can take for ever, and comes from the controller."""
    import regex  # late: only agents that are given patterns need it

    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise SpecError(Problem("spec.pattern", f"not a regular expression: {error}")) from error
    ours, until = {os.getpid(), os.getppid()}, time.monotonic() + _MATCH_S
    matched = []
    try:
        for pid in proc.pids():
            line = proc.command_line(pid)
            if pid in ours or not line or not compiled.search(line, timeout=max(0.001, until - time.monotonic())):
                continue
            if (identity := proc.identify(pid)) is not None:
                matched.append(identity)
    except TimeoutError as error:
        raise SpecError(Problem("spec.pattern", f"takes over {_MATCH_S:g} s to match", "write it simpler")) from error
    if not matched:
        raise SpecError(Problem("spec.pattern", f"no process's command line matches {pattern!r}"))
    children = {member.pid for one in matched for member in proc.tree(one)[1:]}
    return [one for one in matched if one.pid not in children]


def describe(roots: list[proc.Identity], members: int) -> str:
    """For a human: `encode-worker (pid 4711), 3 processes`."""
    named = ", ".join(f"{one.name} (pid {one.pid})" for one in roots)
    return f"{named}, {members} process{'es' if members > 1 else ''}"
