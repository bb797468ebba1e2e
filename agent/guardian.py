"""The guardian: a small process that ends what the agent cannot end any more.

`python -m agent.guardian DIRECTORY SOCKET_FD`. It is started before any fault. The agent tells it of each intent,
and it answers when it has read the journal: only then is the fault injected. When its socket ends (the agent is
dead), or a deadline passes and the effect is still in force (the agent hangs), it reverts from the journal; it ends
with the agent. It has a session of its own, so that a terminal's Ctrl-C does not reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from agent.faults.base import Effect
from agent.faults.registry import Faults, all_faults
from agent.journal import Journal
from agent.system import clock, proc
from agent.undo import revert_all
from protos.error import FaultError

GRACE_S: Final = 0.15  # the agent's own timer comes first; the guardian acts when it has not
_ANSWER_S: Final = 10.0
_LOOK_S: Final = 0.5  # at the most, while something is in force: a machine may have been suspended meanwhile
_GIVE_UP_S: Final = 8.0  # the pauses between tries, once the agent is dead, double up to this


class Guardian:
    """The agent's side: starts the process, tells it of intents, starts another when it has died."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._arming = asyncio.Lock()

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    def start(self) -> None:
        """Forks the process; returns before it is ready. One that is there hangs: it must not wake up and revert."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
        self.stop()
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-m", "agent.guardian", str(self._directory), str(theirs.fileno())],
                pass_fds=[theirs.fileno()], start_new_session=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        ours.setblocking(False)
        self._socket = ours

    async def arm(self) -> None:
        """Returns when the guardian has read all that the journal holds; FaultError if it cannot be brought to."""
        async with self._arming:
            await self._arm()

    async def _arm(self) -> None:
        for _ in range(2):
            if self._socket is None or self._child is None or self._child.poll() is not None:
                self.start()
            assert self._socket is not None
            loop = asyncio.get_running_loop()
            try:
                await loop.sock_sendall(self._socket, b"?")
                if await asyncio.wait_for(loop.sock_recv(self._socket, 1), _ANSWER_S):
                    return
            except (OSError, TimeoutError):
                pass  # it died, or hangs: once more with a new one
            self.start()
        raise FaultError("the guardian does not answer: nothing is injected without one")

    def stop(self) -> None:
        """Closes the socket: the guardian reverts what is in force, if anything is, and ends."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(0.0)
            if self._child.returncode is None:
                _ending.append(self._child)
            self._child = None
        _ending[:] = [child for child in _ending if child.poll() is None]

    async def watch(self) -> None:
        """Replaces a guardian that died while the agent lives; runs until cancelled."""
        while True:
            if self._child is not None and self._child.poll() is not None:
                self.start()
            await asyncio.sleep(0.2)


_ending: Final[list[subprocess.Popen[bytes]]] = []


def main(argv: list[str]) -> None:
    directory, channel = Path(argv[0]), socket.socket(fileno=int(argv[1]))
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever stops the service stops the agent: its end is our signal
    journal, faults, tried = Journal(directory), all_faults(), set[str]()
    while True:
        waiting = [effect for effect in journal.in_force() if _here(effect) and effect.id not in tried]
        if not _await_agent(channel, _until_next(waiting)):
            break
        if due := [effect for effect in waiting if _left_s(effect) <= 0]:
            asyncio.run(_end(journal, faults, due))
            tried |= {effect.id for effect in due}
    pause_s = 0.5
    while left := journal.in_force():
        asyncio.run(_end(journal, faults, left))
        if not journal.in_force() or pause_s > _GIVE_UP_S:
            return  # what is stranded now is for the agent's next start, or for a human
        time.sleep(pause_s)
        pause_s *= 2


def _await_agent(channel: socket.socket, timeout_s: float | None) -> bool:
    """Answers the agent's question, if one comes in time; False when the agent is dead."""
    channel.settimeout(timeout_s)
    try:
        if not channel.recv(1):
            return False
        channel.sendall(b"!")
    except TimeoutError:
        return True
    except OSError:
        return False
    return True


async def _end(journal: Journal, faults: Faults, due: list[Effect]) -> None:
    await revert_all(journal, faults, due, "guardian")


def _here(effect: Effect) -> bool:
    return bool(effect.deadline_ns) and effect.boot_id == proc.boot_id()


def _left_s(effect: Effect) -> float:
    return clock.left_ns(effect.deadline_ns, effect.suspended_ns) / 1e9 + GRACE_S


def _until_next(effects: list[Effect]) -> float | None:
    """Seconds until the guardian has to look again; None: only when spoken to."""
    if not effects:
        return None
    return min(_LOOK_S, max(0.01, min(map(_left_s, effects))))


if __name__ == "__main__":
    main(sys.argv[1:])
