"""Which requests of a pass-through a fault is laid over, and what happens to them.

Invariant: what only looks (LOOKUP, GETATTR) is never touched, so that paths can always be walked, and the mount ended.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import random
import struct
from typing import Any, Final

from agent.system.fuse import Op, Request
from agent.system.passnode import Nodes

OPERATIONS: Final = {
    "open": "of a file that exists",
    "open_write": "the same, only where it is opened to be changed",
    "read": "",
    "write": "also fallocate and copy_file_range",
    "fsync": "also fdatasync",
    "create": "of files, directories and links",
    "unlink": "also rmdir",
    "rename": "",
    "truncate": "also an open that truncates",
    "list": "of directories",
    "setattr": "owner, mode, times",
    "close": "",
}
_OF: Final = {
    Op.OPEN: "open", Op.READ: "read", Op.WRITE: "write", Op.FALLOCATE: "write", Op.COPY_FILE_RANGE: "write",
    Op.FSYNC: "fsync", Op.FSYNCDIR: "fsync", Op.CREATE: "create", Op.MKNOD: "create", Op.MKDIR: "create",
    Op.SYMLINK: "create", Op.LINK: "create", Op.TMPFILE: "create", Op.UNLINK: "unlink", Op.RMDIR: "unlink",
    Op.RENAME: "rename", Op.RENAME2: "rename", Op.OPENDIR: "list", Op.FLUSH: "close",
}  # fmt: skip
_NAME_AT: Final = {  # where the name begins in the body
    Op.CREATE: 16, Op.MKNOD: 16, Op.MKDIR: 8, Op.SYMLINK: 0, Op.LINK: 8, Op.UNLINK: 0, Op.RMDIR: 0, Op.RENAME: 8,
    Op.RENAME2: 16,
}  # fmt: skip
_SETS_SIZE: Final = 8


class Rule:
    """Made from the arguments of a fault: operations, fraction, names, and errno or delay_s and jitter_s."""

    def __init__(self, arguments: dict[str, Any], nodes: Nodes) -> None:
        self._operations = frozenset(arguments["operations"])
        self._fraction: float = arguments["fraction"]
        self._names: list[str] = arguments["names"]
        self._errno = getattr(errno, arguments["errno"]) if arguments.get("errno") else 0
        self._delay_s: float = arguments.get("delay_s", 0.0)
        self._jitter_s: float = arguments.get("jitter_s", 0.0)
        self._nodes = nodes
        self._chance = random.Random()  # noqa: S311 no secret

    def decide(self, request: Request) -> tuple[int, float]:
        """(errno to fail with, seconds to wait before it is done); both 0 when it is left alone."""
        if self._operations.isdisjoint(_operations(request)) or not self._matches(request):
            return 0, 0.0
        if self._fraction < 1 and self._chance.random() >= self._fraction:
            return 0, 0.0
        if self._errno:
            return self._errno, 0.0
        return 0, max(0.0, self._delay_s + self._chance.uniform(-self._jitter_s, self._jitter_s))

    def _matches(self, request: Request) -> bool:
        if not self._names:
            return True
        at = _NAME_AT.get(Op(request.op))
        place = self._nodes.place(request.node, request.body[at:].split(b"\0")[0] if at is not None else b"")
        return place.private or is_named(place.path, self._names)


def is_named(path: str, names: list[str]) -> bool:
    """Whether a path from the directory, or its last part, matches one of the patterns."""
    last = path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(last, name) or fnmatch.fnmatchcase(path, name) for name in names)


def _operations(request: Request) -> tuple[str, ...]:
    if request.op == Op.SETATTR:
        return ("truncate" if struct.unpack_from("<I", request.body)[0] & _SETS_SIZE else "setattr",)
    if request.op == Op.OPEN and struct.unpack_from("<I", request.body)[0] & os.O_ACCMODE != os.O_RDONLY:
        return ("open", "open_write")
    return (_OF.get(request.op, ""),)  # type: ignore[call-overload] # opcodes that are none of ours
