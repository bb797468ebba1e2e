"""The switch of a testbed: this process's own network namespace, with a bridge to which the hosts are plugged.

Invariant: nothing here ever touches the machine's own network; every change is refused until `enter_switch` has
moved the process into a namespace of its own. Nothing is named, so the kernel takes it all down with the process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from blackstart.local import kernel
from protos.error import BlackstartError, RefusedError

BRIDGE: Final = "bs0"
ADDRESS: Final = "10.77.0.254"  # of the switch itself: what this process binds and dials from
PREFIX: Final = "10.77.0."
HOSTS_MAX: Final = 250

_PROGRAMS: Final = {"ip": "iproute2", "setpriv": "util-linux", "mount": "mount", "sh": "dash", "env": "coreutils"}

_entered: set[str] = set()  # identity of the namespace that this process made, at most one


def available() -> str:
    """Empty when hosts can be made here, else what is missing and what to do about it."""
    if os.geteuid() != 0:
        return "needs root"
    if not kernel.has_capabilities(kernel.CAP_SYS_ADMIN, kernel.CAP_NET_ADMIN):
        return "needs the capabilities CAP_SYS_ADMIN and CAP_NET_ADMIN (in a container: run it with --privileged)"
    missing = sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None})
    return f"install {' '.join(missing)}" if missing else ""


def enter_switch(threads_max: int = 1) -> None:
    """Move this process into a network namespace of its own: loopback up, bridge up; again: nothing happens.

    Call it early, on the main thread, before gRPC or anything else starts a thread: a thread that exists stays
    behind in the machine's network.

    Args:
        threads_max: threads that may exist, this one counted: more than 1 only for those known to use no network.

    Raises:
        RefusedError: more threads exist already, or `available` says what is missing.
    """
    if entered():
        return
    if missing := available():
        raise RefusedError(f"cannot make a network namespace: {missing}")
    if (threads := kernel.thread_count()) > threads_max:
        raise RefusedError(
            f"cannot enter a network namespace: this process has {threads} threads already, and they would stay "
            "behind; call enter_switch() first, before gRPC or other libraries start theirs"
        )
    kernel.unshare(kernel.CLONE_NEWNET)
    _entered.clear()
    _entered.add(_identity())
    configure(
        "link set lo up",
        f"link add {BRIDGE} address 02:b5:00:00:00:fe type bridge forward_delay 0",
        f"address add {ADDRESS}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    )
    shorten_backoff()


def entered() -> bool:
    """Whether the calling thread is in the namespace that `enter_switch` made."""
    return _identity() in _entered


def configure(*commands: str) -> None:
    """Run the `ip` *commands* as one batch in the switch; the first that fails ends it.

    Raises:
        RefusedError: this process is still in the machine's own network.
        BlackstartError: `ip` failed; the message is its own.
    """
    if not entered():
        raise RefusedError("not in a switch namespace: call enter_switch() early in this process")
    done = subprocess.run(
        ["ip", "-batch", "-"], input="\n".join(commands), capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode != 0:
        raise BlackstartError(f"ip -batch failed: {done.stderr.strip()} (commands: {'; '.join(commands)})")


def unplug(*ports: str) -> None:
    """Delete those of *ports* that are still there: the kernel takes a dead host's away too, but up to 0.5 s late."""
    if ports and entered():
        batch = "\n".join(f"link delete {port}" for port in ports)
        command = ["ip", "-force", "-batch", "-"]  # a port that is gone is no error
        subprocess.run(command, input=batch, capture_output=True, text=True, check=False, timeout=30)


def shorten_backoff() -> None:
    """Cap TCP's retransmission back-off at 1 s in the calling thread's network, where the kernel can (Linux 6.15).

    Without it the back-off, up to 120 s, is a part of every recovery time after a cut.
    """
    with contextlib.suppress(FileNotFoundError), Path("/proc/sys/net/ipv4/tcp_rto_max_ms").open("r+") as file:
        file.write("1000")


def _identity() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())
