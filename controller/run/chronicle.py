"""The history of runs, and who follows it.

Invariant: a follower sees every event once, in order of its number, and comes to an end after `run.ended`.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from controller.store.base import EventRecord, Json, Store

LAST: Final = "run.ended"


class Chronicle:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._news: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._log = structlog.get_logger("controller.run")

    async def add(self, run_id: str, kind: str, message: str, body: Json | None = None) -> EventRecord:
        """One line of the run's history, for a human, and logged."""
        event = await self._store.add_event(run_id, kind, message, body or {}, time.time_ns())
        self._log.info(message, run=run_id, event_kind=kind)
        for waiting in self._news.get(run_id, ()):
            waiting.set()
        return event

    async def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventRecord]:
        """Events past number *after*, those of the future too."""
        news = asyncio.Event()
        self._news[run_id].add(news)
        try:
            while True:
                news.clear()
                for event in await self._store.events(run_id, after):
                    yield event
                    after = event.number
                    if event.kind == LAST:
                        return
                await news.wait()
        finally:
            self._news[run_id].discard(news)
            if not self._news[run_id]:
                del self._news[run_id]
