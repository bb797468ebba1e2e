"""What a controller's process does beside leading: stands by, shows that it is alive, and ends when it leads no more.

Invariant: from the moment at which another may lead, this process answers no call and ends at once. The orderly way
would write; so its runs are left to the other to close, and its children die with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import structlog

from controller.cluster import ApiServer
from controller.leader import Candidate
from controller.store.lock import HeldError
from protos.error import Exit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from controller.config import KubernetesSettings
    from controller.store.sql import SqlStore

T = TypeVar("T")
BEAT_S: Final = 5.0
_LOCK_LOOK_S: Final = 0.5
_LOCK_SAY_S: Final = 5.0


def always() -> bool:
    """Whether a controller leads that no lease was named to."""
    return True


async def while_leading(
    place: KubernetesSettings, told: asyncio.Event, serve: Callable[[Callable[[], bool]], Awaitable[None]]
) -> None:
    """Stands by until the lease of *place* is ours, then does *serve*, and gives the lease back when that has ended.

    Args:
        place: names the lease.
        told: set when the process is to end; while it stands by, that ends it.
        serve: is given what tells whether we still lead.
    """
    server = ApiServer(place)

    async def ask(method: str, path: str, document: dict[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        return await aside(lambda: server.ask(method, path, document, timeout_s))

    log = structlog.get_logger("controller.leader")
    candidate = Candidate(ask, place.lease, place.lease_s, f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}")

    def tell(said: str) -> None:
        log.info("standing by", why=said, lease=place.lease)
        print(json.dumps({"ready": False, "standing_by": said, "pid": os.getpid()}), flush=True)

    try:
        if not await _unless(told, candidate.win(tell)):
            log.info("told to end while standing by")
            return
        log.info("leads", lease=place.lease, identity=candidate.identity)
        keeping = asyncio.create_task(_keep(candidate))
        try:
            await serve(candidate.leads)
        finally:
            keeping.cancel()
    finally:
        await candidate.release()


async def _keep(candidate: Candidate) -> None:
    try:
        why = await candidate.keep()
    except Exception as error:  # noqa: BLE001 - a lease that nobody renews must not be believed in
        why = f"its renewal broke: {type(error).__name__}: {error}"
    end_at_once(why)


async def end_when_superseded(store: SqlStore) -> None:
    """Ends the process when the store takes no more writes from it."""
    await store.superseded.wait()
    end_at_once("another controller leads the store")


def end_at_once(why: str) -> NoReturn:
    """See the module."""
    structlog.get_logger("controller.leader").error("leads no more, ends at once", why=why)
    print(f"blackstart-controller: leads no more: {why}", file=sys.stderr, flush=True)
    os._exit(int(Exit.INCONCLUSIVE))


async def opened(store: SqlStore, told: asyncio.Event) -> bool:
    """Opens *store* once nobody has it any more: who led before may still be ending. False if we are *told* to end."""
    loop, log = asyncio.get_running_loop(), structlog.get_logger("controller.leader")
    begun_s, said_s = loop.time(), float("-inf")
    while not told.is_set():
        try:
            await store.open()
        except HeldError as error:
            if loop.time() - said_s >= _LOCK_SAY_S:
                said_s = loop.time()
                log.warning("waiting for the store", waited_s=round(said_s - begun_s), why=str(error))
            await asyncio.sleep(_LOCK_LOOK_S)
        else:
            return True
    return False


async def show_alive(file: Path) -> None:
    """Touches *file* for as long as the event loop turns: a port would be accepted on even by a process that hangs."""
    while True:
        try:
            file.touch()
        except OSError as error:
            structlog.get_logger("controller").error("cannot show that it is alive", why=str(error))
        await asyncio.sleep(BEAT_S)


async def aside(call: Callable[[], T]) -> T:
    """*call* in a thread of its own: it waits for no pool of threads, and the process may end under it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def body() -> None:
        result, failed = None, None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - it is the caller's
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=body, daemon=True, name="aside").start()
    return await future


async def _unless(told: asyncio.Event, work: Awaitable[None]) -> bool:
    """True once *work* is done, False if *told* was set before."""
    doing, stopping = asyncio.ensure_future(work), asyncio.create_task(told.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            await doing
        return doing.done()
    finally:
        for task in (doing, stopping):
            task.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)
