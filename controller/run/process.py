"""A child process beside gRPC: started without fork, waited for by its descriptor.

A fork copies gRPC's locks without the threads that hold them; its handlers have been seen to abort the child. `Popen`
uses vfork where nothing has to run between fork and exec, and vfork runs no handlers; the event loop's own subprocesses
are forked. Invariant: after `wait` has returned, `returncode` is set, and the child's whole group is gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LINE_BYTES_MAX: Final = 1 << 20


class Child:
    """A process in a session of its own, with its output as streams."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._descriptor = os.pidfd_open(process.pid)
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._descriptor, self._reap)

    @classmethod
    def start(cls, command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> Child:
        """OSError if it cannot be started."""
        return cls(
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=directory,
                env=environment, start_new_session=True,
            )
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number if one ended it."""
        return self._process.returncode

    async def wait(self) -> None:
        """Returns when the child is gone; may be called by several, and be cancelled."""
        await asyncio.shield(self._gone)

    def signal_group(self, number: int) -> None:
        """To the child and to all that it started and that stayed in its group."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    async def _lines(self, stream: IO[bytes] | None) -> asyncio.StreamReader:
        """The lines of one of the two outputs, until nobody holds its other end."""
        assert stream is not None
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
        return reader

    async def stdout(self) -> asyncio.StreamReader:
        return await self._lines(self._process.stdout)

    async def stderr(self) -> asyncio.StreamReader:
        return await self._lines(self._process.stderr)

    async def end(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after *grace_s*."""
        if self.returncode is None:
            self.signal_group(signal.SIGTERM)
            await asyncio.wait({self._gone}, timeout=grace_s)
        if self.returncode is None:
            self.signal_group(signal.SIGKILL)
        await self.wait()

    def _reap(self) -> None:
        """What the child left in its group goes with it; the group's number is ours until the child is reaped."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.signal_group(signal.SIGKILL)
        self._process.wait()
        if not self._gone.done():
            self._gone.set_result(None)
