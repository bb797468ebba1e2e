"""One controller a store file: a lock that the kernel drops when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from protos.error import RefusedError


class HeldError(RefusedError):
    """Another process has the store."""


class FileLock:
    """Holds `<file>.lock` from `acquire` to `release`. The lock file stays: removing it would let two in."""

    def __init__(self, file: Path) -> None:
        self._path = file.with_name(f"{file.name}.lock")
        self._descriptor = -1

    def acquire(self) -> None:
        """HeldError, naming the holder, if another process (or another store of this one) has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            message = f"another controller uses this store (pid {holder}): {self._path}: stop it, or name another store"
            raise HeldError(message) from error
        self._descriptor = descriptor
        try:
            os.pwrite(descriptor, f"{os.getpid():<20}".encode(), 0)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
