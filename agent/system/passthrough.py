"""A file system that hands everything on to a directory: what `file.*` faults are laid over.

Invariant: what is written through it is in the directory underneath when the write returns, with the owner, the mode
and the names that it would have had; nothing else is ever made there.

It works as root: the kernel has checked the caller's permissions before (`default_permissions`).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections.abc import Callable
from typing import Final

from agent.system import fuse, passfile
from agent.system.fuse import Connection, Op, Request
from agent.system.passlock import Locks
from agent.system.passnode import Nodes

_SETATTR: Final = struct.Struct("<IIQQQqqqIIIIIIII")
_STATFS: Final = struct.Struct("<QQQQQIIII24x")
_MODE, _USER, _GROUP, _SIZE, _ATIME, _MTIME, _HANDLE, _ATIME_NOW, _MTIME_NOW = (1 << bit for bit in range(9))
_HEADER_ATTRIBUTES: Final = struct.pack("<QII", 0, 0, 0)
_SGID: Final = stat.S_ISGID
_SPECIAL_BITS: Final = stat.S_ISUID | stat.S_ISGID


class PassThrough(passfile.Files):
    """Answers requests from a directory; safe to be called by several threads, each with a umask of its own."""

    def __init__(self, connection: Connection, nodes: Nodes) -> None:
        super().__init__(connection, nodes, Locks())
        self._ways: dict[int, Callable[[Request], None]] = {
            op: getattr(self, f"_{op.name.lower()}") for op in Op if hasattr(self, f"_{op.name.lower()}")
        }

    def answer(self, request: Request) -> None:
        """Does what is asked and replies."""
        way = self._ways.get(request.op)
        if way is None:
            self.connection.fail(request, errno.ENOSYS)
            return
        try:
            way(request)
        except OSError as error:
            if request.op not in fuse.SILENT:
                self.connection.fail(request, error.errno or errno.EIO)
        except (ValueError, struct.error, OverflowError):
            if request.op not in fuse.SILENT:
                self.connection.fail(request, errno.EINVAL)

    def _init(self, request: Request) -> None:
        self.connection.agree(request)

    def _destroy(self, request: Request) -> None:
        self.connection.reply(request)

    def _lookup(self, request: Request) -> None:
        self.connection.reply(request, self.nodes.lookup(request.node, request.names[0]))

    def _forget(self, request: Request) -> None:
        self.nodes.forget(request.node, struct.unpack_from("<Q", request.body)[0])

    def _batch_forget(self, request: Request) -> None:
        (count,) = struct.unpack_from("<I", request.body)
        for number, times in struct.iter_unpack("<QQ", request.body[8 : 8 + 16 * count]):
            self.nodes.forget(number, times)

    def _getattr(self, request: Request) -> None:
        found = os.fstat(self.nodes.descriptor(request.node))
        self.connection.reply(request, _HEADER_ATTRIBUTES, fuse.attributes(found))

    def _setattr(self, request: Request) -> None:
        valid, _, handle, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, user, group, _ = (
            _SETATTR.unpack_from(request.body)
        )
        path = self.nodes.path(request.node)
        if valid & (_USER | _GROUP):
            os.chown(path, user if valid & _USER else -1, group if valid & _GROUP else -1)
        if valid & _MODE:
            os.chmod(path, stat.S_IMODE(mode))  # noqa: PTH101
        if valid & _SIZE:
            os.truncate(handle if valid & _HANDLE else path, size)
        if valid & (_ATIME | _MTIME):
            now, found = time.time_ns(), os.fstat(self.nodes.descriptor(request.node))
            at = now if valid & _ATIME_NOW else atime * 10**9 + atime_ns
            mt = now if valid & _MTIME_NOW else mtime * 10**9 + mtime_ns
            os.utime(
                path, ns=(at if valid & _ATIME else found.st_atime_ns, mt if valid & _MTIME else found.st_mtime_ns)
            )
        self._getattr(request)

    def _readlink(self, request: Request) -> None:
        self.connection.reply(request, os.readlink(b"", dir_fd=self.nodes.descriptor(request.node)))

    def _symlink(self, request: Request) -> None:
        name, target = request.names[:2]
        folder = self.nodes.descriptor(request.node)
        os.symlink(target, name, dir_fd=folder)
        self._own(request, name)
        self._lookup(request)

    def _mknod(self, request: Request) -> None:
        mode, device, umask, _ = struct.unpack_from("<IIII", request.body)
        name = request.body[16:].split(b"\0")[0]
        os.umask(umask)
        os.mknod(name, mode, fuse.device_number(device), dir_fd=self.nodes.descriptor(request.node))
        self._own(request, name)
        self.connection.reply(request, self.nodes.lookup(request.node, name))

    def _mkdir(self, request: Request) -> None:
        mode, umask = struct.unpack_from("<II", request.body)
        name = request.body[8:].split(b"\0")[0]
        os.umask(umask)
        os.mkdir(name, mode, dir_fd=self.nodes.descriptor(request.node))
        self._own(request, name)
        self.connection.reply(request, self.nodes.lookup(request.node, name))

    def _own(self, request: Request, name: bytes) -> None:
        """Gives what was just made to the caller, as the kernel would have."""
        if request.user == os.geteuid() and request.group == os.getegid():
            return
        folder = self.nodes.descriptor(request.node)
        group = -1 if os.fstat(folder).st_mode & _SGID else request.group
        mode = os.lstat(name, dir_fd=folder).st_mode
        os.chown(name, request.user, group, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(mode) and mode & _SPECIAL_BITS:  # which a change of owner takes away
            os.chmod(name, stat.S_IMODE(mode), dir_fd=folder)

    def _unlink(self, request: Request) -> None:
        os.unlink(request.names[0], dir_fd=self.nodes.descriptor(request.node))
        self.connection.reply(request)

    def _rmdir(self, request: Request) -> None:
        os.rmdir(request.names[0], dir_fd=self.nodes.descriptor(request.node))
        self.connection.reply(request)

    def _rename(self, request: Request) -> None:
        self._move(request, struct.unpack_from("<Q", request.body)[0], 0, request.body[8:])

    def _rename2(self, request: Request) -> None:
        folder, flags, _ = struct.unpack_from("<QII", request.body)
        self._move(request, folder, flags, request.body[16:])

    def _move(self, request: Request, folder: int, flags: int, names: bytes) -> None:
        old, new = names.split(b"\0")[:2]
        passfile.rename(self.nodes.descriptor(request.node), old, self.nodes.descriptor(folder), new, flags)
        self.connection.reply(request)

    def _link(self, request: Request) -> None:
        (number,) = struct.unpack_from("<Q", request.body)
        name = request.body[8:].split(b"\0")[0]
        os.link(self.nodes.path(number), name, dst_dir_fd=self.nodes.descriptor(request.node), follow_symlinks=True)
        self.connection.reply(request, self.nodes.lookup(request.node, name))

    def _statfs(self, request: Request) -> None:
        found = os.statvfs(self.nodes.path(request.node))
        reply = _STATFS.pack(
            found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree,
            found.f_bsize, found.f_namemax, found.f_frsize, 0,
        )  # fmt: skip
        self.connection.reply(request, reply)

    def _setxattr(self, request: Request) -> None:
        size, flags = struct.unpack_from("<II", request.body)
        name, _, value = request.body[8:].partition(b"\0")
        os.setxattr(self.nodes.path(request.node), name, value[:size], flags)
        self.connection.reply(request)

    def _getxattr(self, request: Request) -> None:
        (size,) = struct.unpack_from("<I", request.body)
        name = request.body[8:].split(b"\0")[0]
        self._sized(request, size, os.getxattr(self.nodes.path(request.node), name))

    def _listxattr(self, request: Request) -> None:
        (size,) = struct.unpack_from("<I", request.body)
        names = [os.fsencode(name) + b"\0" for name in os.listxattr(self.nodes.path(request.node))]
        self._sized(request, size, b"".join(names))

    def _sized(self, request: Request, size: int, value: bytes) -> None:
        """An attribute, or how long it is when the caller asks for that (size 0)."""
        if size and len(value) > size:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
        self.connection.reply(request, value if size else struct.pack("<II", len(value), 0))

    def _removexattr(self, request: Request) -> None:
        os.removexattr(self.nodes.path(request.node), request.names[0])
        self.connection.reply(request)
