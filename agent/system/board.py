"""How far each encode worker is: a small file that all of them map, so that nobody has to be asked.

One slot a worker, each written by that worker alone: pictures encoded since the workload began, and when the last one
was. Invariant: a reader sees whole numbers only (eight bytes, aligned), and a slot goes on where a dead worker's ended.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Final

_SLOT: Final = struct.Struct("=QQ")  # pictures, CLOCK_MONOTONIC ns
_STRIDE: Final = 64  # a cache line each


def make(path: Path, workers: int) -> None:
    """An empty file for that many."""
    path.write_bytes(bytes(_STRIDE * max(1, workers)))


class Slot:
    """A worker's own; `tick` is called for each picture."""

    def __init__(self, path: Path, number: int) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._at = number * _STRIDE
        self._count = _SLOT.unpack_from(self._map, self._at)[0]
        self.tick()

    def tick(self, pictures: int = 0) -> None:
        """*pictures*: more than at the last call."""
        self._count += pictures
        _SLOT.pack_into(self._map, self._at, self._count, time.monotonic_ns())


def pictures(path: Path) -> int | None:
    """Of all workers so far, by somebody who looks now and then; None where there is no board."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return int(sum(_SLOT.unpack_from(data, at)[0] for at in range(0, len(data) - _SLOT.size + 1, _STRIDE)))


class Board:
    """Everybody's, for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            self._slots = os.fstat(file.fileno()).st_size // _STRIDE

    def pictures(self) -> int:
        """Of all workers, those of jobs that were lost among them."""
        return sum(_SLOT.unpack_from(self._map, at * _STRIDE)[0] for at in range(self._slots))

    def last_ns(self, number: int) -> int:
        """When that worker last did something."""
        return int(_SLOT.unpack_from(self._map, number * _STRIDE)[1])

    def leave(self) -> None:
        """Goes on under another name: who looks from outside sees that nothing is encoded any more."""
        self.path = self.path.rename(self.path.with_name("board-after"))

    def close(self) -> None:
        self._map.close()
