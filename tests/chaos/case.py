"""One case a fault: a target of its own, a spec that names it, and the state that must be as before.

`tests/chaos/subject/FAMILY.py` holds the makers of one family, each marked `@subject(kind)`; `case(kind)` runs one.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.system import proc


@dataclass
class Case:
    """A fresh target, and the eyes that look at it from outside, without the fault's own code."""

    kind: str
    spec: dict[str, Any]
    seen: Callable[[], dict[str, Any]] = dict  # everything that this fault could leave behind
    in_force: Callable[[], bool] = lambda: False  # whether the effect can be seen right now
    vanish: Callable[[], None] = lambda: None  # the target goes away
    spent: frozenset[str] = frozenset()  # what the fault is meant to change for good (a killed target)

    def fingerprint(self) -> dict[str, Any]:
        """Equal before and after."""
        return {"holders": holders(), **self.seen()}

    def comparable(self) -> dict[str, Any]:
        """The fingerprint without what the fault is meant to change for good."""
        return {key: value for key, value in self.fingerprint().items() if key not in self.spent}


@dataclass(frozen=True)
class Subject:
    """How to make a case of one kind; `variants`: further specs laid over the first, by a name for the tables.

    *home*: the suite whose contract tests run it; the others cannot make what it needs. *lasts_s*: how long a trial of
    self-chaos lasts, seconds: longer where a fault takes its time to begin.
    """

    make: Callable[[], AbstractContextManager[Case]]
    missing: Callable[[], str]
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    home: str = "contract"
    lasts_s: float = 1.2


SUBJECTS: dict[str, Subject] = {}


def subject(
    kind: str,
    *,
    missing: Callable[[], str] = lambda: "",
    variants: dict[str, dict[str, Any]] | None = None,
    home: str = "contract",
    lasts_s: float = 1.2,
) -> Callable[[Callable[[], Iterator[Case]]], Callable[[], Iterator[Case]]]:
    """Marks a generator function that yields one `Case` of *kind*; *missing* says why it cannot run here, or ""."""

    def keep(make: Callable[[], Iterator[Case]]) -> Callable[[], Iterator[Case]]:
        SUBJECTS[kind] = Subject(contextlib.contextmanager(make), missing, variants or {}, home, lasts_s)
        return make

    return keep


def at_home(home: str) -> list[str]:
    """The kinds whose contract tests run in that suite."""
    return sorted(kind for kind, one in SUBJECTS.items() if one.home == home)


def missing(kind: str) -> str:
    """Why the case cannot run here; empty if it can."""
    return SUBJECTS[kind].missing()


@contextlib.contextmanager
def case(kind: str) -> Iterator[Case]:
    """A fresh target for one fault; gone at the end."""
    with SUBJECTS[kind].make() as made:
        yield made


def variants() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name in tables -> (kind, what is laid over the case's spec)."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for kind, one in sorted(SUBJECTS.items()):
        found[kind] = (kind, {})
        found |= {f"{kind} ({name})": (kind, extra) for name, extra in one.variants.items()}
    return found


def holders() -> list[str]:
    """Holders that this test's own agents may have left: found by command line and by the mark that they inherit."""
    found = []
    for pid in proc.pids():
        line = proc.command_line(pid)
        if "agent.faults.hold" in line and _ours(pid):
            found.append(line)
    return sorted(found)


def _ours(pid: int) -> bool:
    try:
        marks = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except (OSError, ValueError):
        return False
    return f"BLACKSTART_TEST={os.environ.get('BLACKSTART_TEST', os.getpid())}" in marks


def environment() -> dict[str, str]:
    """For the agents of a test: what they start inherits the mark by which leftovers are found."""
    return {**os.environ, "BLACKSTART_TEST": os.environ.get("BLACKSTART_TEST", str(os.getpid()))}


def line(process: subprocess.Popen[bytes]) -> bytes:
    """The next line that a target writes."""
    assert process.stdout is not None
    return process.stdout.readline()


def end(*processes: subprocess.Popen[bytes]) -> None:
    """Kills, reaps and closes."""
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


def wait_until(check: Any, timeout_s: float) -> float:
    """Seconds until *check* was true; AssertionError when it never was."""
    started = time.monotonic()
    while not check():
        assert time.monotonic() - started < timeout_s, f"not within {timeout_s} s"
        time.sleep(0.005)
    return time.monotonic() - started


def _load() -> None:
    package = importlib.import_module("tests.chaos.subject")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"tests.chaos.subject.{module.name}")


_load()
