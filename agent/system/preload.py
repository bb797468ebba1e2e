"""libfaketime: where it is, how a program runs under it, and which programs do.

Invariant: a program under the wrapper sees the node's own clock as long as its offset file cannot be opened.

libfaketime 0.9.10 with FAKETIME_NO_CACHE=1 opens that file at every reading of the clock and falls back to no offset
when it cannot: a missing file, a dangling link (measured). It ends the program on a file that it cannot parse, so the
file appears, changes and goes in one step, or not at all.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.system import proc

MARK: Final = "BLACKSTART_CLOCK"  # in the environment: the name under which a program was started
FILE: Final = "FAKETIME_TIMESTAMP_FILE"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FOLDER: Final = "/run/blackstart/clock"
_REAL_MONOTONIC: Final = "FAKETIME_DONT_FAKE_MONOTONIC"
_PLACES: Final = ("lib/*/faketime", "lib64/faketime", "lib/faketime", "local/lib/faketime")  # below /usr
_VENDORED: Final = "vendor/libfaketime/src/libfaketime.so.1"
_OTHERS: Final = ("FAKETIME", "FAKETIME_SHARED", "FAKETIME_CACHE_DURATION", "FAKETIME_FOLLOW_FILE")
_SELF_TEST: Final = (
    "import ctypes, time; at = time.clock_gettime_ns(1) + 5_000_000; "
    "moment = (ctypes.c_long * 2)(at // 10**9, at % 10**9); "
    "raise SystemExit(ctypes.CDLL(None).clock_nanosleep(1, 1, moment, None))"
)
_SELF_TEST_S: Final = 3.0


class Wrapped(NamedTuple):
    """A process that runs under the wrapper."""

    identity: proc.Identity
    environment: dict[str, str]
    user: int  # as which it opens files
    group: int

    @property
    def file(self) -> str:
        return self.environment.get(FILE, "")

    @property
    def monotonic(self) -> bool:
        """Whether its monotonic clock is skewed with the other."""
        return self.environment.get(_REAL_MONOTONIC) != "1"


def installed() -> str:
    """Path of libfaketime: the Python package's own build where there is one, else the system's; "" for none."""
    spec = importlib.util.find_spec("libfaketime")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [path for folder in folders if (path := Path(folder, _VENDORED)).exists()]
    found += [hit for place in _PLACES for hit in sorted(Path("/usr").glob(f"{place}/libfaketimeMT.so.1"))]
    return str(found[0]) if found else ""


def environment(name: str, folder: str, path: str, *, monotonic: bool, base: Mapping[str, str]) -> dict[str, str]:
    """*base* with what makes a program run under the library at *path*, with an offset file that is not there yet."""
    preload = " ".join(filter(None, (path, base.get("LD_PRELOAD", ""))))
    kept = {key: value for key, value in base.items() if key not in _OTHERS}
    real = {} if monotonic else {_REAL_MONOTONIC: "1"}
    return {
        **kept, MARK: name, FILE: os.path.join(folder, name), "FAKETIME_NO_CACHE": "1", "NO_FAKE_STAT": "1",
        "LD_PRELOAD": preload, **real,
    }  # fmt: skip


def flaw(env: Mapping[str, str]) -> str:
    """What this build of libfaketime breaks in the programs under it, in words; empty when nothing is known."""
    try:
        test = subprocess.run(
            [sys.executable, "-I", "-c", _SELF_TEST], env=dict(env), capture_output=True, check=False,
            timeout=_SELF_TEST_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "sleeping until an instant of CLOCK_MONOTONIC hangs"
    return "" if test.returncode == 0 else "sleeping until an instant of CLOCK_MONOTONIC fails (Python >= 3.11 does so)"


def wrapped(name: str) -> list[Wrapped]:
    """The living processes that were started under *name*, and their descendants."""
    mark, found = f"{MARK}={name}".encode(), []
    for pid in proc.pids():
        identity = proc.identify(pid)
        try:
            raw = Path(f"/proc/{pid}/environ").read_bytes()
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if identity and mark in raw.split(b"\0") and proc.alive(identity):
            rows = [row.partition("=") for row in raw.decode(errors="surrogateescape").split("\0")]
            user, group = (int(status.partition(f"\n{key}:")[2].split()[3]) for key in ("Uid", "Gid"))
            found.append(Wrapped(identity, {key: value for key, _, value in rows if key}, user, group))
    return found


def is_loaded(pid: int) -> bool:
    """Whether the library is mapped into the process: it is not into static and set-uid programs."""
    try:
        return b"libfaketime" in Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return False


def shares_view(pid: int) -> bool:
    """Whether the process sees the same files and the same /proc as this one."""
    try:
        return all(os.stat(f"/proc/{pid}/ns/{one}") == os.stat(f"/proc/self/ns/{one}") for one in ("mnt", "pid"))
    except OSError:
        return False


async def look(wearer: Wrapped) -> tuple[float, float, float]:
    """What a fresh process in the same environment and of the same user takes for the time.

    Returns:
        The node's own clock before, what `date` said, the node's own clock after; seconds since 1970.
        OSError when `date` could not say.
    """
    env = {key: value for key, value in wearer.environment.items() if key in (MARK, FILE, "LD_PRELOAD", "NO_FAKE_STAT")}
    env |= {key: value for key, value in wearer.environment.items() if key.startswith("FAKETIME_")} | {"LC_ALL": "C"}
    env.pop("FAKETIME_SHARED", None)  # the wearer's own
    other: dict[str, Any] = (
        {} if wearer.user == os.getuid() else {"user": wearer.user, "group": wearer.group, "extra_groups": []}
    )
    before = time.time()
    child = await asyncio.create_subprocess_exec(
        "date", "+%s.%N", env={**env, "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **other
    )
    output, complaint = await child.communicate()
    after = time.time()
    try:
        return before, float(output), after
    except ValueError as error:
        raise OSError(f"date could not say: {complaint.decode(errors='replace').strip()}") from error
