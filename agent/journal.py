"""The journal: what was going to be done, before it is done, so that anybody can undo it.

One line per record: CRC-32 in hex, a space, JSON, a newline. Invariant: `append` has returned only when the line is on
disk. A line that does not match its checksum (torn by a power loss) is skipped and counted. Agent and guardian both
append, each line in one write under a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from agent.faults.base import Effect
from protos.error import TransientError

Step = Literal["intent", "injected", "reverted", "failed", "stranded"]
_ENDED: Final = ("reverted", "failed")
_COMPACT_BYTES: Final = 1_000_000


class Record(msgspec.Struct, kw_only=True):
    """One step of one effect. *wall_ns* is for humans; *at_ns* is CLOCK_MONOTONIC of the effect's boot."""

    step: Step
    at_ns: int
    wall_ns: int
    by: str  # agent, guardian, start
    effect: Effect
    note: str = ""


class _Identity(msgspec.Struct):
    id: str


class _Named(msgspec.Struct):
    effect: _Identity


class Journal:
    """An open journal in *directory*, which is made if it is not there."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "journal"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = not self._path.exists()
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if fresh:
                _sync_directory(directory)
        except OSError as error:
            raise TransientError(f"journal {self._path}: {error.strerror}: nothing can be injected") from error
        self._encode = msgspec.json.Encoder().encode

    def append(self, record: Record) -> None:
        """Writes and syncs one record; TransientError, and nothing half-written counts, when the disk is full."""
        line = self._line(record)
        try:
            with self._lock():
                self._path.stat()  # what is written to a file that was removed would be seen by nobody
                self._follow()
                end = os.lseek(self._file, 0, os.SEEK_END)
                if end and os.pread(self._file, 1, end - 1) != b"\n":
                    line = b"\n" + line  # the line before was torn: do not join it
                written = os.write(self._file, line)
                if written != len(line):
                    os.ftruncate(self._file, end)
                    raise OSError(28, os.strerror(28))
                os.fdatasync(self._file)
        except OSError as error:
            raise TransientError(f"journal {self._path}: {error.strerror}: free space on that disk") from error

    def records(self) -> tuple[list[Record], int]:
        """All whole records in order, and the number of lines that were torn."""
        self._follow()
        data = _whole(self._file)
        records, torn = [], 0
        for line in filter(None, data.split(b"\n")):
            record = _decode(line)
            if record is None:
                torn += 1
            else:
                records.append(record)
        return records, torn

    def in_force(self) -> list[Effect]:
        """The effects that have not ended, oldest first, each as its last record has it."""
        open_effects: dict[str, Effect] = {}
        for record in self.records()[0]:
            if record.step in _ENDED:
                open_effects.pop(record.effect.id, None)
            else:
                open_effects[record.effect.id] = record.effect
        return list(open_effects.values())

    def compact(self) -> None:
        """Starts a new file with what is in force, once the old one has grown; the old one is kept as `journal.old`.

        Whoever else has the journal open (the guardian) goes over to the new file at the next use.
        """
        if os.fstat(self._file).st_size <= _COMPACT_BYTES:
            return
        with self._lock():
            self._follow()
            kept = {record.effect.id: record for record in self.records()[0]}
            lines = [self._line(record) for record in kept.values() if record.step not in _ENDED]
            fresh = self._path.with_suffix(".new")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                content = b"".join(lines)
                if os.write(descriptor, content) != len(content):
                    raise OSError(28, os.strerror(28))  # the disk is full: the old file stays, with all that it holds
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            old = self._path.with_suffix(".old")
            old.unlink(missing_ok=True)
            os.link(self._path, old)  # so that there is a journal at every instant
            fresh.replace(self._path)
            _sync_directory(self._path.parent)
            self._follow()

    def _follow(self) -> None:
        """Goes over to the file that stands in the journal's place now; stays with its own when somebody removed it."""
        try:
            there, ours = self._path.stat(), os.fstat(self._file)
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
            fresh = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        os.close(self._file)
        self._file = fresh

    def _line(self, record: Record) -> bytes:
        body = self._encode(record)
        return b"%08x %b\n" % (zlib.crc32(body), body)

    def close(self) -> None:
        os.close(self._file)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _whole(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _decode(line: bytes) -> Record | None:
    checksum, body = line[:9], line[9:]
    if checksum != b"%08x " % zlib.crc32(body):
        return None
    try:
        msgspec.json.decode(body, type=_Named)  # a record without an id would be given a new one at each reading
        return msgspec.json.decode(body, type=Record)
    except (ValueError, RecursionError):
        return None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
