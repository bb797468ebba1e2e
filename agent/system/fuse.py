"""The kernel's FUSE protocol, version 7.31: mounting, requests, replies.

Spoken here and not through libfuse, so that a node needs nothing but /dev/fuse, that a file which is unlinked while it
is open needs no hidden name in the directory underneath, and that a mount needs no helper in the target's namespace.

Invariant: every request gets one reply, save those that have none (FORGET, BATCH_FORGET, INTERRUPT).

Source: include/uapi/linux/fuse.h, Documentation/filesystems/fuse.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple

DEVICE: Final = "/dev/fuse"
ROOT: Final = 1
WRITE_MAX: Final = 131_072
BUFFER: Final = WRITE_MAX + 4096
_HEADER: Final = struct.Struct("<IIQQIIIHH")
_REPLY: Final = struct.Struct("<IiQ")
_VERSION: Final = (7, 31)
ATTRIBUTES: Final = struct.Struct("<QQQqqqIIIIIIIIII")
_INIT: Final = struct.Struct("<IIII")
_INIT_REPLY: Final = struct.Struct("<IIIIHHIIHHIIH22x")

# Flags of INIT: what is taken of what the kernel offers.
ASYNC_READ, POSIX_LOCKS, BIG_WRITES, DONT_MASK, FLOCK_LOCKS = 1 << 0, 1 << 1, 1 << 5, 1 << 6, 1 << 10
AUTO_INVALIDATE, PARALLEL_DIROPS, POSIX_ACL, MAX_PAGES, EXTENDED = 1 << 12, 1 << 18, 1 << 20, 1 << 22, 1 << 30
DIRECT_MMAP: Final = 1 << 36  # Linux 6.6: files may be mapped although they are not cached
_WANTED: Final = (
    ASYNC_READ | POSIX_LOCKS | BIG_WRITES | DONT_MASK | FLOCK_LOCKS | AUTO_INVALIDATE | PARALLEL_DIROPS | POSIX_ACL
    | MAX_PAGES | EXTENDED | DIRECT_MMAP
)  # fmt: skip


class Op(IntEnum):
    """Opcodes."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    TMPFILE = 51


SILENT: Final = frozenset({Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT})


class Request(NamedTuple):
    """One request; *body* is what follows its header."""

    op: int
    unique: int
    node: int
    user: int
    group: int
    pid: int
    body: bytes

    @property
    def names(self) -> list[bytes]:
        """The body as strings that end with a zero byte."""
        return self.body.split(b"\0")[:-1]


class Connection:
    """One mounted file system, from its server's side; `serve` may run in several threads at once."""

    def __init__(self) -> None:
        self.device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        self.offered = 0  # flags of INIT, once the kernel has sent them
        self.taken = 0

    def options(self, mode: int) -> str:
        """Data for mount(2): anybody may come in, and the kernel checks their permissions."""
        return f"fd={self.device},rootmode={mode:o},user_id=0,group_id=0,allow_other,default_permissions"

    def serve(self, answer: Callable[[Request], None]) -> None:
        """Hands requests to *answer*, which is to `reply`, until the file system is gone."""
        buffer = bytearray(BUFFER)
        view = memoryview(buffer)
        while True:
            try:
                size = os.readv(self.device, [buffer])
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue  # ENOENT: the request was interrupted before it was read
                return  # ENODEV: unmounted, and the last file closed
            _, op, unique, node, user, group, pid, _, _ = _HEADER.unpack_from(buffer)
            answer(Request(op, unique, node, user, group, pid, bytes(view[_HEADER.size : size])))

    def reply(self, request: Request, *parts: bytes | memoryview) -> None:
        self._write(request.unique, 0, parts)

    def fail(self, request: Request, number: int) -> None:
        self._write(request.unique, -number, ())

    def _write(self, unique: int, error: int, parts: tuple[bytes | memoryview, ...]) -> None:
        size = _REPLY.size + sum(map(len, parts))
        try:
            os.writev(self.device, [_REPLY.pack(size, error, unique), *parts])
        except OSError as failure:
            if failure.errno not in (errno.ENOENT, errno.ENODEV):  # nobody waits for it any more
                raise

    def agree(self, request: Request) -> None:
        """Answers INIT."""
        major, _, readahead, flags = _INIT.unpack_from(request.body)
        more = struct.unpack_from("<I", request.body, 16)[0] if flags & EXTENDED and len(request.body) >= 20 else 0
        self.offered = flags | more << 32
        self.taken = self.offered & _WANTED
        if major != _VERSION[0]:
            self.fail(request, errno.EPROTO)
            return
        reply = _INIT_REPLY.pack(
            *_VERSION, readahead, self.taken & 0xFFFFFFFF, 64, 48, WRITE_MAX, 1, WRITE_MAX // 4096, 0,
            self.taken >> 32, 0, 0,
        )  # fmt: skip
        self.reply(request, reply)


def attributes(found: os.stat_result) -> bytes:
    """The kernel's fuse_attr of a file."""
    return ATTRIBUTES.pack(
        found.st_ino, found.st_size, found.st_blocks,
        found.st_atime_ns // 10**9, found.st_mtime_ns // 10**9, found.st_ctime_ns // 10**9,
        found.st_atime_ns % 10**9, found.st_mtime_ns % 10**9, found.st_ctime_ns % 10**9,
        found.st_mode, found.st_nlink, found.st_uid, found.st_gid, _device(found.st_rdev), found.st_blksize, 0,
    )  # fmt: skip


def _device(number: int) -> int:
    """A device number as the kernel encodes it in 32 bits."""
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def device_number(encoded: int) -> int:
    """The inverse of what the kernel sends as rdev."""
    return os.makedev((encoded >> 8) & 0xFFF, (encoded & 0xFF) | (encoded >> 12) & 0xFFF00)
