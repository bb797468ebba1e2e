"""`log`: watches files for lines that tell what a service does, so that a recovery can be taken apart.

An attempt reads what was appended since the one before. Invariant: a mark lies between two looks of this agent on its
own clock; what the service's own timestamps say is not used. Files are read from their end at the start, and only
whether and where an asked-for text appeared ever leaves the node.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Any, ClassVar, Final

from agent.probes.base import ProbeSpec
from protos.recovery import Code

PATHS_MAX: Final = 50
PATTERNS_MAX: Final = 50
PATTERN_MAX: Final = 200
MARKS_MAX: Final = 1_000  # kept; the first ones, since those end the phases
_CHUNK: Final = 65_536
_CHUNKS_MAX: Final = 16  # of one file in one attempt
_LINE_MAX: Final = 16_384


class LogSpec(ProbeSpec):
    """*marks*: by name, texts of which one must be in a line; `*` within a text stands for anything between its parts.

    *paths*: files that are followed, also over their rotation, and that need not be there yet.
    """

    paths: list[str]
    marks: dict[str, list[str]]

    def problems(self) -> list[tuple[str, str]]:
        found = []
        if not 0 < len(self.paths) <= PATHS_MAX:
            found.append(("paths", f"must name between 1 and {PATHS_MAX} files"))
        found += [("paths", f"{path!r} is not an absolute path") for path in self.paths if not path.startswith("/")]
        texts = [text for alternatives in self.marks.values() for text in alternatives]
        if not 0 < len(texts) <= PATTERNS_MAX or not all(self.marks.values()):
            found.append(("marks", f"must name between 1 and {PATTERNS_MAX} texts, and one at least for each mark"))
        if any(not text.strip("*") or len(text) > PATTERN_MAX for text in texts):
            found.append(("marks", f"a text is empty or longer than {PATTERN_MAX} characters"))
        return found


class _Tail:
    """One file, followed from its end at the start."""

    def __init__(self, path: str, now_ns: int) -> None:
        self.path, self.looked_ns = path, now_ns  # all that was there then has been read
        self.behind = False  # more was there than one look reads
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._rest = b""
        self._open(at_end=True)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def lines(self) -> list[bytes]:
        """Whole lines that were appended since the last look."""
        self.behind = False
        lines = self._read()
        if self._replaced():
            self.close()
            self._open(at_end=False)
            lines += self._read()
        return lines

    def _open(self, *, at_end: bool) -> None:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            return
        self._descriptor, self._identity, self._rest = descriptor, (status.st_dev, status.st_ino), b""
        if at_end:
            os.lseek(descriptor, 0, os.SEEK_END)

    def _replaced(self) -> bool:
        """Whether the path names another file by now, or ours was cut short."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        if self._descriptor < 0 or (status.st_dev, status.st_ino) != self._identity:
            return True
        return status.st_size < os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def _read(self) -> list[bytes]:
        if self._descriptor < 0:
            return []
        parts = [self._rest]
        for _ in range(_CHUNKS_MAX):
            part = os.read(self._descriptor, _CHUNK)
            parts.append(part)
            if len(part) < _CHUNK:
                break
        else:
            self.behind = True
        *lines, self._rest = b"".join(parts).split(b"\n")
        self._rest = self._rest[-_LINE_MAX:]
        return lines


class LogProbe:
    """OK: the files were looked at. A file that is not there says nothing."""

    kind: ClassVar[str] = "log"
    spec_type: ClassVar[type[ProbeSpec]] = LogSpec

    def __init__(self, spec: LogSpec) -> None:
        self._spec = spec
        self._tails: list[_Tail] = []
        self._wanted = [
            (mark, text, [part.encode() for part in text.split("*") if part])
            for mark, texts in spec.marks.items()
            for text in texts
        ]
        self.marks: list[dict[str, Any]] = []  # {mark, path, text, lo_ns, hi_ns}
        self.overflow = 0  # marks that were seen and not kept

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        self._tails = [_Tail(path, time.monotonic_ns()) for path in self._spec.paths]

    async def attempt(self, timeout_s: float) -> Code:
        del timeout_s  # regular files answer
        for tail in self._tails:
            begun_ns = time.monotonic_ns()
            found = [wanted for line in tail.lines() for wanted in self._of(line)]
            seen_ns = time.monotonic_ns()
            room = MARKS_MAX - len(self.marks)
            self.overflow += max(0, len(found) - room)
            for mark, text in found[:room]:
                row = {"mark": mark, "path": tail.path, "text": text, "lo_ns": tail.looked_ns, "hi_ns": seen_ns}
                self.marks.append(row)
            if not tail.behind:
                tail.looked_ns = begun_ns  # what was written while it looked may be of the next look
        return Code.OK

    async def close(self) -> None:
        for tail in self._tails:
            tail.close()

    def _of(self, line: bytes) -> list[tuple[str, str]]:
        return [(mark, text) for mark, text, parts in self._wanted if _has(line, parts)]


def _has(line: bytes, parts: list[bytes]) -> bool:
    at = 0
    for part in parts:
        if (at := line.find(part, at)) < 0:
            return False
        at += len(part)
    return True
