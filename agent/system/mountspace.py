"""Mount namespaces: what is mounted in one, and mounting and detaching there.

Invariant: a mount is detached only when its source says that it is the one meant, when it is on top of its mount
point, and when nobody else has mounted anything below it.

Source: mount(2), umount2(2), setns(2), fsopen(2) and fsmount(2), proc(5) on mountinfo.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from agent.system import proc

OWN: Final = "/proc/self/ns/mnt"
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_CLONE_FS: Final = 0x200
_CLONE_NEWNS: Final = 0x20000
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same numbers on all architectures
_FSCONFIG_CMD_CREATE: Final = 6


class Mount(NamedTuple):
    """One line of mountinfo."""

    id: int
    parent: int
    point: str
    shared: bool  # what is mounted below it appears in other namespaces too
    kind: str
    source: str


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def listing(pid: int | str = "self") -> list[Mount]:
    """The mounts in the namespace of *pid*, in the order in which they were made; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return [_parse(line) for line in file]
    except OSError:
        return []


def listing_at(own: int) -> list[Mount]:
    """The same of the calling thread; *own* is a descriptor of its /proc/thread-self, opened where there is a /proc."""
    descriptor = os.open("mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=own)
    with open(descriptor, encoding="utf-8", errors="surrogateescape") as file:
        return [_parse(line) for line in file]


def _parse(line: str) -> Mount:
    fields, _, rest = line.partition(" - ")
    number, parent, _, _, point, _, *optional = fields.split()
    kind, source = rest.split(" ")[:2]
    shared = any(one.startswith("shared:") for one in optional)
    return Mount(int(number), int(parent), _unescape(point), shared, kind, _unescape(source))


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), text)


def under(path: str, mounts: list[Mount]) -> Mount | None:
    """The mount that *path* (a real one) is on: the last made of those with the longest mount point."""
    best: Mount | None = None
    for one in mounts:
        if is_below(path, one.point) and (best is None or len(one.point) >= len(best.point)):
            best = one
    return best


def is_below(path: str, folder: str) -> bool:
    """Whether *path* is *folder* or in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def identity(path: str = OWN) -> int:
    """The inode of the mount namespace at *path* (/proc/PID/ns/mnt)."""
    return os.stat(path).st_ino


def inhabitant(inode: int) -> int | None:
    """A process that lives in the mount namespace of that inode; None when none does any more."""
    if identity() == inode:
        return os.getpid()
    for pid in proc.pids():
        with contextlib.suppress(OSError):
            if identity(f"/proc/{pid}/ns/mnt") == inode:
                return pid
    return None


def enter(path: str) -> None:
    """This process, which has one thread only, sees the mount namespace at *path* from now on.

    There may be no way back: a thread that has been joined holds on to the old one for a moment still.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_LIBC.setns(descriptor, _CLONE_NEWNS), f"setns({path})")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def inside(descriptor: int) -> Iterator[None]:
    """The calling thread sees the mount namespace behind *descriptor*.

    For the only thread of a process, or one that shares no working directory with the others (`apart`).
    """
    own = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_LIBC.setns(descriptor, _CLONE_NEWNS), "setns")
        try:
            yield
        finally:
            _check(_LIBC.setns(own, _CLONE_NEWNS), "setns")
    finally:
        os.close(own)


def leave_threads() -> None:
    """The calling thread has a working directory, root and umask of its own from now on."""
    _check(_LIBC.unshare(_CLONE_FS), "unshare(CLONE_FS)")


def apart(work: Callable[[], Any]) -> Any:
    """What *work* returns or raises, done by a thread of its own that shares no working directory with the others."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            leave_threads()
            outcome.extend((True, work()))
        except BaseException as error:  # noqa: BLE001 raised again where it was called
            outcome.extend((False, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    done, value = outcome
    if not done:
        raise value
    return value


def mount(source: str, point: str, kind: str, flags: int, data: str) -> None:
    """Mounts *source* on *point*, for the calling thread's namespace."""
    words = [os.fsencode(word) for word in (source, point, kind)]
    _check(_LIBC.mount(*words, flags, os.fsencode(data)), f"mount of {kind} on {point}")


def obstacle(source: str, mounts: list[Mount]) -> str:
    """Why the mount of *source* may not be detached now, in words: others have mounted something on or below it."""
    ours = [one.id for one in mounts if one.source == source]
    above = [one for one in mounts if ours and one.parent == ours[-1]]
    return f"{above[0].source} is mounted on {above[0].point}, by somebody else: unmount that" if above else ""


def detach(source: str, inode: int) -> bool:
    """Detaches the mount of *source* in the namespace of that inode; False when it was not there.

    Who has files open on it keeps them. OSError when somebody else's mount is on it or below it.
    """
    pid = inhabitant(inode)
    if pid is None or not any(one.source == source for one in listing(pid)):
        return False
    descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_ino != inode:
            return False  # the process ended, or moved, in between
        return bool(apart(lambda: _detach_there(source, descriptor)))
    finally:
        os.close(descriptor)


def _detach_there(source: str, descriptor: int) -> bool:
    own = os.open("/proc/thread-self", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # there may be no /proc there
    try:
        with inside(descriptor):
            return detach_here(source, own)
    finally:
        os.close(own)


def detach_here(source: str, own: int) -> bool:
    """Detaches in the calling thread's namespace; *own* is a descriptor of /proc/thread-self."""
    mounts = listing_at(own)
    found = [one for one in mounts if one.source == source]
    if not found:
        return False
    if problem := obstacle(source, mounts):
        raise OSError(16, problem)
    point = os.fsencode(found[-1].point)
    _check(_LIBC.umount2(point, _MNT_DETACH | _UMOUNT_NOFOLLOW), f"umount2({found[-1].point})")
    return True


def nameless_tmpfs() -> int:
    """A descriptor of the root of a file system in memory that is mounted nowhere: it goes with the descriptor."""
    context = _check(_LIBC.syscall(_FSOPEN, b"tmpfs", 1), "fsopen(tmpfs)")
    try:
        _check(_LIBC.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig(tmpfs)")
        return _check(_LIBC.syscall(_FSMOUNT, context, 1, 0), "fsmount(tmpfs)")
    finally:
        os.close(context)
