"""What this agent refused, for the node's owner to read: one JSON line each in STATE/audit.jsonl.

Invariant: a line is appended by one write and never changed, and the log is bounded: two files (`audit.jsonl` and the
one before it, `audit.jsonl.1`). Lines are written at a bounded rate and the next one says how many refusals were
`unwritten` before it, so that nobody can soon flush out what he did before; what is refused for being too much has a
rate of its own, so that a flood hides nothing else. Written before the answer is sent; not synced: it survives the
death of the agent, not a loss of power.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from agent.rate import Bucket

FILE: Final = "audit.jsonl"
_BYTES_MAX: Final = 4_000_000  # of each file
_BURST, _PER_S = 1000, 5.0  # lines: to turn both files over takes more than an hour
_FLOOD_BURST, _FLOOD_PER_S = 20, 0.2
_TEXT_MAX: Final = 500  # characters of any field: the texts are those of whoever was refused


class Audit:
    """The log in *directory*, which exists by the first refusal."""

    def __init__(self, directory: Path, bytes_max: int = _BYTES_MAX) -> None:
        self._path, self._bytes_max = directory / FILE, bytes_max
        self._bucket, self._floods = Bucket(_BURST, _PER_S), Bucket(_FLOOD_BURST, _FLOOD_PER_S)
        self._unwritten = 0
        self._log = structlog.get_logger("agent.audit")

    def refused(
        self, kind: str, why: str, *, status: str = "refused", order: str = "", run: str = "", actor: str = "",
        flood: bool = False,
    ) -> None:  # fmt: skip
        """Appends one refusal: of an order, or of what a controller said otherwise (*kind* `welcome` or `stream`).

        *flood*: nothing was wrong with it but that there were too many.
        """
        if not (self._floods if flood else self._bucket).take():
            self._unwritten += 1
            return
        self._log.warning("refused", kind=kind[:_TEXT_MAX], why=why[:_TEXT_MAX], order=order[:_TEXT_MAX])
        self._write({"kind": kind, "why": why, "status": status, "order": order, "run": run, "actor": actor})

    def settle(self) -> None:
        """Says how many refusals were not written one by one, once there is room for a line again."""
        if self._unwritten and self._bucket.take():
            self._write({"kind": "", "why": "more refusals than are written one by one", "status": "refused"})

    def _write(self, fields: dict[str, str]) -> None:
        wall_ns = time.time_ns()
        wall = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall_ns // 1_000_000_000))
        row: dict[str, Any] = {"wall": f"{wall}.{wall_ns // 1_000_000 % 1000:03}Z"}
        row |= {name: text[:_TEXT_MAX] for name, text in fields.items()}
        if self._unwritten:
            row["unwritten"] = self._unwritten
        try:
            self._append(msgspec.json.encode(row) + b"\n")
            self._unwritten = 0
        except OSError as error:  # what was refused stays refused
            self._unwritten += 1
            self._log.error("the audit cannot be written", path=str(self._path), error=error.strerror)

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(28, os.strerror(28))
            full = os.fstat(descriptor).st_size >= self._bytes_max
        finally:
            os.close(descriptor)
        if full:
            self._path.replace(self._path.with_name(f"{FILE}.1"))
