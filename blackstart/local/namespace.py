"""A testbed: hosts as anonymous Linux namespaces, plugged to a switch that is this process's own network.

A host has its own network, mounts, processes (pid 1 reaps), hostname and IPC; it shares the machine's files and clocks.
Invariant: nothing has a name outside the processes themselves, so nothing can leak: when the owner dies, also by
SIGKILL, each host's pid 1 dies with it (parent-death signal, and the end of the pipe it reads), the kernel kills
what runs in the host, and the network goes with the last process.

One testbed at a time in a process; any number of processes side by side, with the same addresses.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar, Final, Self, TypeVar

from blackstart.local import kernel, switch
from blackstart.local.switch import available, enter_switch
from protos.error import BlackstartError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

__all__ = ["Host", "Testbed", "available", "enter_switch"]

ResultT = TypeVar("ResultT")
Stream = int | IO[bytes] | None

# Pid 1 of a host. It mounts the host's own /proc, waits for its cable, takes its address and then only stays: `cat`
# with SIGCHLD ignored reaps what is orphaned, holds 1 MB, and ends when the owner's end of the pipe does.
_INIT: Final = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
echo "$1" > /proc/sys/kernel/hostname
read -r plugged
ip -batch - <<EOF
link set lo up
address add $2/24 dev eth0
link set eth0 up
EOF
if [ -e /proc/sys/net/ipv4/tcp_rto_max_ms ]; then echo 1000 > /proc/sys/net/ipv4/tcp_rto_max_ms; fi
echo up
exec env --ignore-signal=CHLD cat
"""


class _Rack:
    """The one thread that changes namespaces, so that no other thread of the process ever leaves its own.

    It lives as long as the testbed: the parent-death signal of the hosts follows the thread that started them.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="testbed", initializer=kernel.unshare,
                                            initargs=(kernel.CLONE_FS,))  # fmt: skip
        self._home = os.pidfd_open(os.getpid())

    def inside(self, enter: Callable[[], None], call: Callable[[], ResultT]) -> ResultT:
        """Result of *call*, run by the thread where *enter* has moved it."""

        def work() -> ResultT:
            enter()
            try:
                return call()
            finally:
                kernel.setns(self._home, kernel.HOST_NAMESPACES)

        return self._executor.submit(work).result()

    def close(self) -> None:
        self._executor.shutdown()
        os.close(self._home)


class Host:
    """One host of a testbed. Made by `Testbed.add`; `pid` is that of its pid 1 as the owner sees it."""

    def __init__(self, name: str, number: int, rack: _Rack) -> None:
        self.name = name
        self.address = f"{switch.PREFIX}{number}"
        self.port_name = f"bs{number}"
        self._mac = f"02:b5:00:00:00:{number:02x}"  # fixed: after a reboot the peers' ARP entries still hold
        self._rack = rack
        self._spawned: list[subprocess.Popen[bytes]] = []
        self._init = rack.inside(lambda: kernel.unshare(kernel.HOST_NAMESPACES), self._start_init)
        self._pidfd = os.pidfd_open(self._init.pid)
        self._lock = threading.Lock()
        self.off = False

    @property
    def pid(self) -> int:
        """Pid of the host's pid 1, in the owner's pid namespace."""
        return self._init.pid

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start *argv* inside the host, in a session of its own.

        It is a direct child of this process, with no wrapper between: `Popen.pid` is its pid here, signals sent to it
        (SIGSTOP too) reach it alone, `wait` gives its own status. Inside the host it has another pid, and parent 0. It
        ends with the host, so with this process at the latest. Until it is waited for, it stays a zombie.

        Raises:
            RefusedError: the host is off.
        """
        if self.off:
            raise RefusedError(f"host {self.name} is off: Testbed.add({self.name!r}) starts it again")
        place = Path(cwd or os.curdir).absolute()  # entering a mount namespace resets the thread's directory
        child = self._rack.inside(
            lambda: kernel.setns(self._pidfd, kernel.HOST_NAMESPACES),
            lambda: subprocess.Popen(
                list(argv), env=None if env is None else dict(env), stdin=stdin, stdout=stdout, stderr=stderr,
                cwd=place, start_new_session=True,
            ),
        )  # fmt: skip
        with self._lock:
            self._spawned = [known for known in self._spawned if known.returncode is None]
            self._spawned.append(child)
        return child

    def run(self, argv: Sequence[str], timeout_s: float = 10.0) -> subprocess.CompletedProcess[str]:
        """Run *argv* inside the host to its end; output and status are in the result, whatever the status.

        Raises:
            subprocess.TimeoutExpired: it was still running after *timeout_s*, and has been killed.
        """
        with self.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            try:
                out, err = child.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                child.kill()
                raise
        return subprocess.CompletedProcess(list(argv), child.returncode, out.decode(), err.decode())

    def port(self, up: bool) -> None:
        """Plug or unplug the host's cable: down, its peers hear nothing more from it, no FIN and no RST."""
        if self.off:
            raise RefusedError(f"host {self.name} is off: Testbed.add({self.name!r}) starts it again")
        switch.configure(f"link set {self.port_name} {'up' if up else 'down'}")

    def power_off(self) -> None:
        """Cut the power: the port goes down first, so no peer gets a FIN, then everything in the host is killed."""
        if not self.off:
            with contextlib.suppress(BlackstartError):  # of a host that has ended the kernel takes the port away
                self.port(up=False)
            self.kill()

    def ended(self) -> bool:
        """Whether its pid 1 has ended, by whomever."""
        with self._lock:
            for child in self._spawned:  # as in `kill`
                child.poll()
        return self._init.poll() is not None

    def kill(self) -> None:
        """SIGKILL pid 1, with it everything in the host, and reap what this process had started there."""
        if self.off:
            return
        self.off = True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with self._lock:
            for child in self._spawned:  # pid 1 cannot end before its namespace is empty, of zombies too
                child.wait()
        self._init.wait()
        os.close(self._pidfd)
        for pipe in (self._init.stdin, self._init.stdout):
            if pipe is not None:
                pipe.close()

    def cables(self) -> tuple[str, str]:
        """The `ip` commands that plug the host to the switch."""
        return (
            f"link add {self.port_name} type veth peer name eth0 address {self._mac} netns {self.pid}",
            f"link set {self.port_name} master {switch.BRIDGE} up",
        )

    def boot(self) -> None:
        """Tell pid 1 that the cable is there."""
        assert self._init.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: `await_boot` says so
            self._init.stdin.write(b"\n")
            self._init.stdin.flush()

    def await_boot(self) -> None:
        """Return once the host has its address."""
        assert self._init.stdout is not None
        if self._init.stdout.readline() != b"up\n":
            raise BlackstartError(f"host {self.name} did not come up: its pid 1 says why on standard error")

    def _start_init(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "sh", "-c", _INIT, "init", self.name, self.address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip


class Testbed:
    """Hosts on one switch, all up when the context is entered, all gone when it is left.

    Args:
        names: of the hosts, in the order of their addresses: 10.77.0.1, 10.77.0.2, …
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name
    _open: ClassVar[bool] = False

    def __init__(self, names: Sequence[str] = ()) -> None:
        if not switch.entered():
            raise RefusedError("a testbed needs a switch: call enter_switch() early in this process")
        if Testbed._open:
            raise RefusedError("this process has a testbed open already: add the hosts to that one, or close it first")
        self.hosts: dict[str, Host] = {}
        self._numbers: dict[str, int] = {}
        self._rack = _Rack()
        self._closed = False
        Testbed._open = True
        try:
            self._start(names)
        except BaseException:  # Ctrl-C, too: no host stays up
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, name: str) -> Host:
        """Start one more host; a name that was powered off comes back at its old address, like a machine rebooted."""
        self._start([name])
        return self.hosts[name]

    def close(self) -> None:
        """Kill every host and take its port away. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        hosts, self.hosts = list(self.hosts.values()), {}
        for host in hosts:
            host.kill()
        switch.unplug(*(host.port_name for host in hosts))
        self._rack.close()
        Testbed._open = False

    def _start(self, names: Sequence[str]) -> None:
        hosts: list[Host] = []
        for name in names:
            known = self.hosts.get(name)
            if known is not None and not known.off:
                raise RefusedError(f"the testbed has a host {name} already: choose another name")
            if known is not None:
                switch.unplug(known.port_name)
            number = self._numbers.setdefault(name, len(self._numbers) + 1)
            if number > switch.HOSTS_MAX:
                raise RefusedError(f"a testbed holds at most {switch.HOSTS_MAX} hosts")
            self.hosts[name] = Host(name, number, self._rack)
            hosts.append(self.hosts[name])
        if hosts:
            switch.configure(*(command for host in hosts for command in host.cables()))
        for host in hosts:
            host.boot()
        for host in hosts:
            host.await_boot()
