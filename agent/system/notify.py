"""What the service manager is told. Without one every call does nothing.

Source: sd_notify(3).
"""

from __future__ import annotations

import os
import socket


def notify(*lines: str) -> None:
    """Sends lines such as READY=1 to the service manager's socket, if there is one."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto("\n".join(lines).encode(), address)


def watchdog_s() -> float:
    """How often to send WATCHDOG=1: half of what the service manager waits for; 0 when it does not watch."""
    if int(os.environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
        return 0.0
    return int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
