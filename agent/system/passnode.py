"""The files of a pass-through, as the kernel numbers them: each is held by a descriptor of the file underneath.

Invariant: a node is a file, not a path: it stays the same file when it is renamed, and when it is unlinked while open.
A node lives as long as the kernel remembers it (LOOKUP counts, FORGET counts down).
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from typing import Final, NamedTuple

from agent.system import fuse

_ENTRY: Final = struct.Struct("<QQQQII")
_PATH_FLAGS: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH_MAX: Final = 200


class _Node:
    __slots__ = ("count", "descriptor", "key", "name", "parent", "private")

    def __init__(self, descriptor: int, key: tuple[int, int], parent: int, name: bytes, *, private: bool) -> None:
        self.descriptor, self.key, self.parent, self.name, self.private = descriptor, key, parent, name, private
        self.count = 1


class Place(NamedTuple):
    """Where a file was last seen: for patterns, not for access."""

    path: str  # from the root of the tree
    private: bool  # in the tree's own scratch directory


class Nodes:
    """Number of a node -> file; the root is number 1.

    *scratch* is a directory elsewhere that appears at the root as *scratch_name*, for who knows the name: it is in no
    listing, and what is done in it leaves no trace in the directory underneath.
    """

    def __init__(self, root: int, scratch: int, scratch_name: bytes) -> None:
        found = os.fstat(root)
        self._lock = threading.Lock()
        self._nodes = {fuse.ROOT: _Node(root, (found.st_dev, found.st_ino), fuse.ROOT, b"", private=False)}
        self._numbers = {self._nodes[fuse.ROOT].key: fuse.ROOT}
        self._next = fuse.ROOT + 1
        self._scratch, self._scratch_name = scratch, scratch_name

    def descriptor(self, number: int) -> int:
        """The O_PATH descriptor of a node; ESTALE when the kernel names one that it has forgotten."""
        try:
            return self._nodes[number].descriptor
        except KeyError:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None

    def path(self, number: int) -> str:
        """A path that leads to that very file, whatever its name is by now."""
        return f"/proc/self/fd/{self.descriptor(number)}"

    def lookup(self, parent: int, name: bytes) -> bytes:
        """The kernel's entry of *name* in a directory; it counts as one more reference."""
        if parent == fuse.ROOT and name == self._scratch_name:
            return self.enter(parent, name, os.open(".", _PATH_FLAGS | os.O_DIRECTORY, dir_fd=self._scratch))
        return self.enter(parent, name, os.open(name, _PATH_FLAGS, dir_fd=self.descriptor(parent)))

    def enter(self, parent: int, name: bytes, descriptor: int) -> bytes:
        """The kernel's entry of the file behind an O_PATH *descriptor*, which is kept or closed."""
        found = os.fstat(descriptor)
        key = (found.st_dev, found.st_ino)
        with self._lock:
            number = self._numbers.get(key)
            if number is None:
                number, self._next = self._next, self._next + 1
                private = name == self._scratch_name and parent == fuse.ROOT
                above = self._nodes.get(parent)
                private = private or bool(above and above.private)
                self._nodes[number] = _Node(descriptor, key, parent, name, private=private)
                self._numbers[key] = number
            else:
                node = self._nodes[number]
                node.count, node.parent, node.name = node.count + 1, parent, name
                os.close(descriptor)
        return _ENTRY.pack(number, 0, 0, 0, 0, 0) + fuse.attributes(found)

    def forget(self, number: int, count: int) -> None:
        with self._lock:
            node = self._nodes.get(number)
            if node is None or number == fuse.ROOT:
                return
            node.count -= count
            if node.count <= 0:
                del self._nodes[number]
                del self._numbers[node.key]
                os.close(node.descriptor)

    def place(self, number: int, name: bytes = b"") -> Place:
        """Where the node (or *name* in it) was last seen."""
        parts, private = [name] if name else [], number == fuse.ROOT and name == self._scratch_name
        with self._lock:
            for _ in range(_DEPTH_MAX):
                node = self._nodes.get(number)
                if node is None or number == fuse.ROOT:
                    break
                private = private or node.private
                parts.append(node.name)
                number = node.parent
        return Place(os.fsdecode(b"/".join(reversed(parts))), private)
