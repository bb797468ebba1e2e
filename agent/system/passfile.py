"""Open files and directories of a pass-through: a handle of the kernel's is a descriptor of the file underneath."""

from __future__ import annotations

import abc
import ctypes
import errno
import os
import stat
import struct
import threading
from collections.abc import Callable
from typing import Final

from agent.system import fuse
from agent.system.fuse import Connection, Request
from agent.system.passlock import Locks
from agent.system.passnode import Nodes

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_IO: Final = struct.Struct("<QQIIQII")  # fuse_read_in and fuse_write_in
_RELEASE: Final = struct.Struct("<QIIQ")
_FLUSH: Final = struct.Struct("<QIIQ")
_COPY: Final = struct.Struct("<QQQQQQQ")
_DIRENT: Final = struct.Struct("<QQII")
_OPENED: Final = struct.Struct("<QII")
_DIRECT: Final = 1  # FOPEN_DIRECT_IO: every read and write comes here
_FROM_CACHE: Final = 1  # FUSE_WRITE_CACHE: a page of a mapped file, at its offset
_LEFT_OUT: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_DIRECT | os.O_NOCTTY | os.O_TRUNC
_SPECIAL_BITS: Final = stat.S_ISUID | stat.S_ISGID
_RETRY_S: Final = 0.01
_INTERRUPTED_MAX: Final = 10_000

Later = Callable[[float, Callable[[], None]], None]


def rename(old_folder: int, old: bytes, new_folder: int, new: bytes, flags: int) -> None:
    """renameat2(2)."""
    if _LIBC.renameat2(old_folder, old, new_folder, new, flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Files(abc.ABC):
    """The part of a pass-through that works on what is open."""

    later: Later  # (seconds, what to do then): set by the server; who waits for a lock is not to keep a thread

    def __init__(self, connection: Connection, nodes: Nodes, locks: Locks) -> None:
        self.connection, self.nodes, self._locks = connection, nodes, locks
        self._folders: dict[int, list[bytes]] = {}
        self._interrupted: set[int] = set()
        self._guard = threading.Lock()

    def _opened(self, handle: int) -> bytes:
        """Not through the page cache where files can be mapped all the same: else others' writes would be missed."""
        return _OPENED.pack(handle, _DIRECT if self.connection.taken & fuse.DIRECT_MMAP else 0, 0)

    def _open(self, request: Request) -> None:
        (flags,) = struct.unpack_from("<I", request.body)
        handle = os.open(self.nodes.path(request.node), flags & ~_LEFT_OUT | os.O_CLOEXEC)
        self.connection.reply(request, self._opened(handle))

    def _create(self, request: Request) -> None:
        flags, mode, umask, _ = struct.unpack_from("<IIII", request.body)
        name = request.body[16:].split(b"\0")[0]
        folder = self.nodes.descriptor(request.node)
        os.umask(umask)
        kept = flags & ~_LEFT_OUT | flags & (os.O_EXCL | os.O_TRUNC) | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        existed = _exists(name, folder)
        handle = os.open(name, kept, mode, dir_fd=folder)
        if not existed:
            self._give(request, handle, folder)
        entry = self.nodes.enter(request.node, name, os.open(f"/proc/self/fd/{handle}", os.O_PATH | os.O_CLOEXEC))
        self.connection.reply(request, entry, self._opened(handle))

    def _tmpfile(self, request: Request) -> None:
        flags, mode, umask, _ = struct.unpack_from("<IIII", request.body)
        os.umask(umask)
        kept = flags & ~_LEFT_OUT | flags & os.O_EXCL | os.O_TMPFILE | os.O_CLOEXEC
        handle = os.open(self.nodes.path(request.node), kept, mode)
        self._give(request, handle, self.nodes.descriptor(request.node))
        entry = self.nodes.enter(request.node, b"", os.open(f"/proc/self/fd/{handle}", os.O_PATH | os.O_CLOEXEC))
        self.connection.reply(request, entry, self._opened(handle))

    def _give(self, request: Request, handle: int, folder: int) -> None:
        """Gives a file that was just made to the caller, as the kernel would have."""
        if request.user == os.geteuid() and request.group == os.getegid():
            return
        mode = os.fstat(handle).st_mode
        os.fchown(handle, request.user, -1 if os.fstat(folder).st_mode & stat.S_ISGID else request.group)
        if mode & _SPECIAL_BITS:  # which a change of owner takes away
            os.fchmod(handle, stat.S_IMODE(mode))

    def _read(self, request: Request) -> None:
        handle, offset, size, *_ = _IO.unpack_from(request.body)
        self.connection.reply(request, os.pread(handle, size, offset))

    def _write(self, request: Request) -> None:
        handle, offset, size, how, _, flags, _ = _IO.unpack_from(request.body)
        content = memoryview(request.body)[_IO.size : _IO.size + size]
        appends = flags & os.O_APPEND and not how & _FROM_CACHE
        written = os.pwritev(handle, [content], offset, os.RWF_APPEND if appends else 0)
        self.connection.reply(request, struct.pack("<II", written, 0))

    def _flush(self, request: Request) -> None:
        handle, _, _, owner = _FLUSH.unpack_from(request.body)
        self._locks.drop(request.node, owner)
        os.close(os.dup(handle))  # a file system that reports an error at close gets to
        self.connection.reply(request)

    def _release(self, request: Request) -> None:
        handle, _, _, owner = _RELEASE.unpack_from(request.body)
        self._locks.drop(request.node, owner)
        os.close(handle)
        self.connection.reply(request)

    def _fsync(self, request: Request) -> None:
        handle, flags = struct.unpack_from("<QI", request.body)
        (os.fdatasync if flags & 1 else os.fsync)(handle)
        self.connection.reply(request)

    _fsyncdir = _fsync

    def _fallocate(self, request: Request) -> None:
        handle, offset, length, mode = struct.unpack_from("<QQQI", request.body)
        if _LIBC.fallocate(handle, mode, offset, length):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self.connection.reply(request)

    def _lseek(self, request: Request) -> None:
        handle, offset, whence = struct.unpack_from("<QQI", request.body)
        self.connection.reply(request, struct.pack("<Q", os.lseek(handle, offset, whence)))

    def _copy_file_range(self, request: Request) -> None:
        source, source_at, _, target, target_at, length, _ = _COPY.unpack_from(request.body)
        copied = os.copy_file_range(source, target, length, source_at, target_at)
        self.connection.reply(request, struct.pack("<II", copied, 0))

    def _ioctl(self, request: Request) -> None:
        self.connection.fail(request, errno.ENOTTY)

    def _opendir(self, request: Request) -> None:
        handle = os.open(self.nodes.path(request.node), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.connection.reply(request, _OPENED.pack(handle, 0, 0))

    def _readdir(self, request: Request) -> None:
        handle, offset, size, *_ = _IO.unpack_from(request.body)
        if offset == 0 or handle not in self._folders:
            self._folders[handle] = _listing(handle)
        reply = b""
        for row in self._folders[handle][offset:]:
            if len(reply) + len(row) > size:
                break
            reply += row
        self.connection.reply(request, reply)

    def _releasedir(self, request: Request) -> None:
        handle, *_ = _RELEASE.unpack_from(request.body)
        self._folders.pop(handle, None)
        os.close(handle)
        self.connection.reply(request)

    def _getlk(self, request: Request) -> None:
        self.connection.reply(request, self._locks.look(request.node, self.nodes.path(request.node), request.body))

    def _setlk(self, request: Request) -> None:
        self._locks.take(request.node, self.nodes.path(request.node), request.body)
        self.connection.reply(request)

    def _setlkw(self, request: Request) -> None:
        """Tries again and again: a thread that waited could not be woken when the caller is interrupted."""
        with self._guard:
            if request.unique in self._interrupted:
                self._interrupted.discard(request.unique)
                self.connection.fail(request, errno.EINTR)
                return
        try:
            self._setlk(request)
        except BlockingIOError:
            self.later(_RETRY_S, lambda: self.answer(request))

    @abc.abstractmethod
    def answer(self, request: Request) -> None:
        """Does what is asked and replies."""

    def _interrupt(self, request: Request) -> None:
        """Remembered for who waits for a lock; all else is answered soon."""
        (unique,) = struct.unpack_from("<Q", request.body)
        with self._guard:
            if len(self._interrupted) > _INTERRUPTED_MAX:
                self._interrupted.clear()
            self._interrupted.add(unique)


def _exists(name: bytes, folder: int) -> bool:
    try:
        os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def _listing(handle: int) -> list[bytes]:
    """The kernel's rows of a directory, as it is now; what was not told apart cheaply has no type."""
    rows = [(b".", 4, 0), (b"..", 4, 0)]
    with os.scandir(handle) as entries:
        for entry in entries:
            kind = 10 if entry.is_symlink() else 4 if entry.is_dir(follow_symlinks=False) else 0
            kind = kind or (8 if entry.is_file(follow_symlinks=False) else 0)
            rows.append((os.fsencode(entry.name), kind, entry.inode()))
    found = []
    for at, (name, kind, inode) in enumerate(rows, 1):
        row = _DIRENT.pack(inode or 1, at, len(name), kind) + name
        found.append(row + bytes(-len(row) % 8))
    return found
