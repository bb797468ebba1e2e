"""Holds packets in a queue and does to them what a `mangle_*` module says: delay, reorder, duplicate, corrupt, pace.

Arguments: the facts of `scope.resolve`, `table` (its name), `mark`, `mangle` (NAME of `agent.faults.mangle_NAME`, which
has `streams(arguments) -> dict[str, Stream]`, by the sides of `queue_table`), and what that module wants. Optional:
`sampled_fraction` (of the matching packets that go to the queue at all, taken in the kernel), `spared_ports`,
`loopback_spared`, `priority`.

Rule and queue belong to sockets of this process: the kernel takes both back when it ends, however it ends. A gentle end
(SIGUSR1, the deadline) lets go at once of what is held; after SIGKILL the kernel drops it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import time
from typing import Any, Final

from agent.system import libc, netlink, queue_table
from agent.system.queue_engine import Engine, Stream
from agent.system.queue_table import Selection

DIES_WITH_AGENT: Final = True
_SETTLE_S: Final = 0.01  # for what came while the rules went; a packet is served within a tenth of that
_tables: list[tuple[socket.socket, str]] = []
_engines: list[Engine] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Enters the namespace, if one is named, opens the queues and commits the table; the bounds of the commit."""
    del deadline_ns
    if arguments["network"]:
        libc.enter_network(arguments["network"])
    mangle = importlib.import_module(f"agent.faults.mangle_{arguments['mangle']}")
    streams: dict[str, Stream] = mangle.streams(arguments)
    engine = Engine(list(streams.values()))
    _prepare_to_be_quick()
    signal.signal(signal.SIGUSR1, _end)
    engine.start()
    _engines.append(engine)
    table = netlink.open_socket(netlink.NETFILTER)
    _tables.append((table, arguments["table"]))
    selection = Selection(
        table=arguments["table"], numbers={side: stream.number for side, stream in streams.items()},
        peers=arguments["peers"], protocol=arguments["protocol"], ports=arguments["ports"],
        spared_ports=arguments.get("spared_ports", []), spare_loopback=arguments.get("loopback_spared", False),
        mark=arguments["mark"], fraction=arguments.get("sampled_fraction", 1.0),
        priority=arguments.get("priority", -150),
    )  # fmt: skip
    lo_ns = time.monotonic_ns()
    queue_table.commit(table, selection)
    numbers = {side: stream.number for side, stream in streams.items()}
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns(), "queues": numbers}


def _prepare_to_be_quick() -> None:
    """A packet that waits for this process is delayed by more than was asked."""
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing here makes cycles
    with contextlib.suppress(OSError):
        os.nice(-10)


def _end(*_: object) -> None:
    let_go()
    os._exit(0)


def tend() -> None:
    """Nothing to do while in force: the engine has a thread of its own."""


def let_go() -> None:
    """Lets go of what is held first, in its order: the kernel drops it when a chain goes. Then removes the table."""
    while _engines:
        _engines.pop().finish()
    for table, name in _tables:
        queue_table.clear(table, name)
    if _tables:
        time.sleep(_SETTLE_S)
    while _tables:
        _tables.pop()[0].close()
