"""Runs a program that ends with its operator: `python -m blackstart.local.tether PARENT_PID PROGRAM ARGUMENT...`.

The kernel sends the program SIGTERM when the thread that started it ends, by SIGKILL too; the program then reverts and
ends as it always does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2); kept over exec


def main(argv: list[str]) -> None:
    parent = int(argv[0])
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if parent and os.getppid() != parent:
        sys.exit(0)  # it died before the kernel was told
    os.execvp(argv[1], argv[1:])  # noqa: S606 a fixed list, no shell wanted


if __name__ == "__main__":
    main(sys.argv[1:])
