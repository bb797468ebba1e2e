"""The process behind a `file.*` fault: a pass-through mounted over a directory, with errors or delays laid over it.

`python -m agent.faults.file_server SOURCE` reads its arguments as one JSON line, mounts, writes one JSON line of report
and serves. When its input ends (its holder is dead) or at its deadline it stops laying faults over anything, answers
what it was delaying, and detaches the mount. It goes on serving, without faults, until the last file that was opened
through it is closed: so that nobody loses a file that was opened during a fault.
"""

from __future__ import annotations

import heapq
import json
import os
import queue
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agent.faults.file_rule import Rule
from agent.system import clock, mountspace, proc
from agent.system.fuse import Connection, Op, Request
from agent.system.mountspace import is_below
from agent.system.passnode import Nodes
from agent.system.passthrough import PassThrough

IDLE: Final = "bs-file-idle"  # the process's name once it lays no fault over anything any more
SCRATCH_SUFFIX: Final = ".scratch"  # of the directory that is for receipts: .SOURCE.scratch, in no listing
_READERS: Final = 6
_WORKERS: Final = 4
_AGAIN_S: Final = 0.5
_KEPT_FLAGS: Final = 0xF  # of the mount underneath: read-only, nosuid, nodev, noexec have the same bits in statvfs
_PROBE: Final = bytes(4096)


class Later:
    """Work that is due at some instant; all of it at once after `hurry`."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._changed = threading.Condition()
        self._ready: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._hurried = False
        _start(self._watch)
        for _ in range(_WORKERS):
            _start(self._work)

    def put(self, delay_s: float, work: Callable[[], None]) -> None:
        with self._changed:
            self._count += 1
            heapq.heappush(self._due, (time.monotonic() + delay_s, self._count, work))
            self._changed.notify()

    def hurry(self) -> None:
        with self._changed:
            for _, _, work in self._due:
                self._ready.put(work)
            self._due.clear()

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                while self._due and self._due[0][0] <= now:
                    self._ready.put(heapq.heappop(self._due)[2])
                self._changed.wait(self._due[0][0] - now if self._due else None)

    def _work(self) -> None:
        mountspace.leave_threads()  # a umask of its own
        while True:
            self._ready.get()()


class Server:
    """One mount and what is laid over it."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments, self._source = arguments, arguments["source"]
        self._namespace = os.open(arguments["namespace"] or mountspace.OWN, os.O_RDONLY | os.O_CLOEXEC)
        self._foreign = bool(arguments["namespace"])
        self._connection = Connection()
        self._agreed = threading.Event()

    def mount(self) -> dict[str, Any]:
        """Mounts over the directory, if it is the one that was planned; the bounds of the instant."""
        if os.fstat(self._namespace).st_ino != self._arguments["namespace_inode"]:
            raise OSError(3, "the mount namespace is not the one that was planned: its process has ended")
        own = os.open("/proc/thread-self", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        scratch = _scratch(self._arguments["attempts"])
        if self._foreign:
            with mountspace.inside(self._namespace):
                root, lo_ns, hi_ns = self._mount(own)
        else:
            root, lo_ns, hi_ns = self._mount(own)
        os.close(own)
        name = f".{self._source}{SCRATCH_SUFFIX}".encode()
        nodes = Nodes(root, scratch, name)
        self._rule: Rule | None = Rule(self._arguments, nodes)
        self._files = PassThrough(self._connection, nodes)
        self._later = Later()  # threads from here on: to change the namespace there could be only one
        self._files.later = self._later.put
        return {"lo_ns": lo_ns, "hi_ns": hi_ns}

    def _mount(self, own: int) -> tuple[int, int, int]:
        path = self._arguments["path"]
        if mounts := [one for one in mountspace.listing_at(own) if one.source.startswith("blackstart_")]:
            for one in mounts:
                if is_below(path, one.point) or is_below(one.point, path):
                    raise OSError(16, f"{one.point} is under a fault already ({one.source})")
        root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(root)
        if os.path.realpath(path) != path or [found.st_dev, found.st_ino] != self._arguments["directory"]:
            raise OSError(2, f"{path} is not the directory that was planned any more")
        flags = os.statvfs(path).f_flag & _KEPT_FLAGS
        lo_ns = time.monotonic_ns()
        mountspace.mount(self._source, path, "fuse.blackstart", flags, self._connection.options(found.st_mode))
        return root, lo_ns, time.monotonic_ns()

    def serve(self) -> None:
        """Returns when the file system is gone."""
        readers = [_start(self._read) for _ in range(_READERS)]
        for reader in readers:
            reader.join()

    def _read(self) -> None:
        mountspace.leave_threads()
        self._connection.serve(self._answer)

    def _answer(self, request: Request) -> None:
        rule = self._rule
        number, delay_s = rule.decide(request) if rule else (0, 0.0)
        if number:
            self._connection.fail(request, number)
        elif delay_s:
            self._later.put(delay_s, lambda: self._files.answer(request))
        else:
            self._files.answer(request)
        if request.op == Op.INIT:
            self._agreed.set()

    def await_kernel(self, timeout_s: float) -> None:
        if not self._agreed.wait(timeout_s):
            raise OSError(110, "the kernel does not speak to the pass-through")

    def end(self) -> None:
        """No more faults; then the mount goes, as soon as nobody else's mount is in the way."""
        self._rule = None
        self._later.hurry()
        Path("/proc/self/comm").write_text(IDLE, encoding="ascii")
        while True:
            try:
                mountspace.apart(self._detach)
            except OSError:
                time.sleep(_AGAIN_S)
            else:
                return

    def _detach(self) -> None:
        own = os.open("/proc/thread-self", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if self._foreign:
                with mountspace.inside(self._namespace):
                    mountspace.detach_here(self._source, own)
            else:
                mountspace.detach_here(self._source, own)
        finally:
            os.close(own)


def _start(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _scratch(attempts: int) -> int:
    """A directory in memory for receipts, with a file to read and enough to unlink and to rename."""
    folder = mountspace.nameless_tmpfs()
    for name in ("probe", *(f"{kind}{at}" for kind in ("unlink", "rename") for at in range(attempts))):
        file = os.open(name, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=folder)
        if name == "probe":
            os.write(file, _PROBE)
        os.close(file)
    return folder


def _watch(server: Server, deadline_ns: int) -> None:
    """Ends the fault at the deadline, or when the holder is gone."""
    poll, suspended = select.poll(), clock.suspended_ns()
    poll.register(0, select.POLLIN | select.POLLHUP)
    while (left_s := clock.left_ns(deadline_ns, suspended) / 1e9) > 0:
        if poll.poll(min(left_s, _AGAIN_S) * 1000):
            break
    server.end()


def main() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.umask(0)
    arguments = json.loads(sys.stdin.buffer.readline())
    try:
        server = Server(arguments)
        report = server.mount()
    except OSError as error:
        print(json.dumps({"error": error.strerror or str(error)}), flush=True)
        return
    serving = _start(server.serve)
    try:
        server.await_kernel(5.0)
    except OSError as error:
        server.end()
        print(json.dumps({"error": str(error)}), flush=True)
        return
    identity = proc.identify(os.getpid())
    assert identity is not None
    report["server"] = {"pid": identity.pid, "start": identity.start, "name": identity.name}
    print(json.dumps(report), flush=True)
    _start(lambda: _watch(server, arguments["deadline_ns"]))
    serving.join()


if __name__ == "__main__":
    main()
