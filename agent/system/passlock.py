"""Locks of a pass-through, taken on the files underneath: they hold against who does not come through it too.

POSIX locks belong to a process, and all of a process's are gone when it closes any descriptor of the file. The kernel
tells owners apart by a number; each owner here has a descriptor of its own, on which the lock is taken as one of an
open file description (fcntl(2), F_OFD_SETLK), and which is closed when the owner closes the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
from typing import Final

REQUEST: Final = struct.Struct("<QQQQIIII")  # fuse_lk_in: handle, owner, start, end, type, pid, flags, padding
ANSWER: Final = struct.Struct("<QQII")
FLOCK: Final = 1  # in flags: flock(2), not fcntl(2)
_FLOCK: Final = struct.Struct("hhqqi4x")
_GET, _SET = 36, 37  # F_OFD_GETLK, F_OFD_SETLK
_TO_END: Final = 2**63 - 1


class Locks:
    """All locks of one mount."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[int, int], int] = {}  # (node, owner) -> descriptor

    def take(self, node: int, path: str, body: bytes) -> None:
        """Takes or drops a lock at once; BlockingIOError when another holds it."""
        handle, owner, start, end, kind, _, flags, _ = REQUEST.unpack_from(body)
        if flags & FLOCK:
            how = {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}[kind]
            fcntl.flock(handle, how | fcntl.LOCK_NB)
            return
        with self._lock:
            if (node, owner) not in self._held:
                if kind == fcntl.F_UNLCK:
                    return
                self._held[node, owner] = _open(path)
            fcntl.fcntl(self._held[node, owner], _SET, _FLOCK.pack(kind, os.SEEK_SET, start, _length(start, end), 0))

    def look(self, node: int, path: str, body: bytes) -> bytes:
        """Who would be in the way of a lock."""
        _, owner, start, end, kind, _, _, _ = REQUEST.unpack_from(body)
        with self._lock:
            own = self._held.get((node, owner))
            descriptor = _open(path) if own is None else own
            try:
                found = fcntl.fcntl(descriptor, _GET, _FLOCK.pack(kind, os.SEEK_SET, start, _length(start, end), 0))
            finally:
                if own is None:
                    os.close(descriptor)
        kind, _, start, length, pid = _FLOCK.unpack(found)
        return ANSWER.pack(start, start + length - 1 if length else _TO_END, kind, max(0, pid))

    def drop(self, node: int, owner: int) -> None:
        """The owner has closed the file."""
        with self._lock, contextlib.suppress(KeyError):
            os.close(self._held.pop((node, owner)))


def _length(start: int, end: int) -> int:
    return 0 if end >= _TO_END else end - start + 1


def _open(path: str) -> int:
    for mode in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY):
        with contextlib.suppress(OSError):
            return os.open(path, mode | os.O_CLOEXEC | os.O_NONBLOCK)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
