"""The writer's side of a ledger: which numbers were sent, which were acknowledged, kept in a file beside the spool.

Invariant: `acknowledged` has returned only when the number is in the file (it outlives the agent, not a loss of power
of its node). A number is used once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
from array import array
from pathlib import Path
from typing import Final

from protos.error import ProbeError
from protos.ledger import Written

_ENTRY: Final = struct.Struct("<QqqB")  # number, sent, answered, what
_ACKNOWLEDGED, _REFUSED = 1, 2
RECORDS_MAX: Final = 10_000_000


class Ledger:
    """An open ledger at *path*, which is made anew. *name*: of no other ledger, for what the service keeps it under."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path, self.name = path, path.stem
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._sent_ns, self._acknowledged_ns = array("q"), array("q")
        self._refused: list[int] = []

    def send(self) -> int:
        """The next number, sent now."""
        self._sent_ns.append(time.monotonic_ns())
        self._acknowledged_ns.append(0)
        return len(self._sent_ns) - 1

    @property
    def full(self) -> bool:
        return len(self._sent_ns) >= RECORDS_MAX

    def acknowledged(self, number: int) -> None:
        """The service said that it has the record."""
        now_ns = time.monotonic_ns()
        self._acknowledged_ns[number] = now_ns  # first: that the file is full is no reason to forget it
        self._keep(number, now_ns, _ACKNOWLEDGED)

    def refused(self, number: int) -> None:
        """The service itself said that it did not take the record."""
        self._refused.append(number)
        self._keep(number, time.monotonic_ns(), _REFUSED)

    def _keep(self, number: int, answered_ns: int, what: int) -> None:
        """Into the file. ProbeError where it does not take it, which says nothing of the service."""
        entry = _ENTRY.pack(number, self._sent_ns[number], answered_ns, what)
        try:
            if os.write(self._file, entry) != len(entry):
                raise OSError(errno.ENOSPC, "no space left for a whole entry")
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, os.fstat(self._file).st_size // _ENTRY.size * _ENTRY.size)
            raise ProbeError(f"the ledger's file {self._path}: {error.strerror}") from error

    def written(self) -> Written:
        """The columns as they are now."""
        return Written(self._sent_ns[:], self._acknowledged_ns[:], tuple(self._refused))

    def close(self, *, keep: bool) -> None:
        """*keep*: the file stays, as evidence of what was never compared. Closing twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if not keep:
            self._path.unlink(missing_ok=True)


def read(path: Path) -> dict[int, tuple[int, int, bool]]:
    """What a ledger's file holds: (sent, answered, acknowledged) by number; a torn end is left out."""
    content = path.read_bytes()
    whole = len(content) - len(content) % _ENTRY.size
    return {
        number: (sent_ns, answered_ns, what == _ACKNOWLEDGED)
        for number, sent_ns, answered_ns, what in _ENTRY.iter_unpack(content[:whole])
    }
