"""The API of the pipeline: takes videos, and gives back those that are encoded.

PUT /videos/NAME is acknowledged once the video is in the database and its name in the queue. GET answers 404 until the
worker has encoded it. Connections to the database are few and shared: when it hangs, so does everything that needs it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import asyncpg
import redis.asyncio
import redis.exceptions

sys.path.insert(0, str(Path(__file__).parent))
from web import serve

DATABASE = "postgresql://postgres@db.pipeline.test/postgres"
QUEUE = "redis://queue.pipeline.test/0"
TABLE = "CREATE TABLE IF NOT EXISTS videos (name text PRIMARY KEY, content bytea, encoded boolean DEFAULT false)"
_TAKE = """INSERT INTO videos (name, content) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET content = excluded.content, encoded = false"""
FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, redis.exceptions.RedisError)
_CONNECT_S = 2.0
RETRY_S = 0.2


class Api:
    """What the paths do."""

    def __init__(self, pool: asyncpg.Pool, queue: redis.asyncio.Redis) -> None:
        self._pool, self._queue = pool, queue

    async def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if path == "/health":
            return 200, b"ok\n"
        if not path.startswith("/videos/"):
            return 404, b""
        name = path.removeprefix("/videos/")
        try:
            if method == "PUT":
                await self._pool.execute(_TAKE, name, body)
                await self._queue.lpush("encode", name)
                return 201, b""
            if method == "GET":
                found = await self._pool.fetchval("SELECT content FROM videos WHERE name = $1 AND encoded", name)
                return (404, b"") if found is None else (200, found)
            if method == "DELETE":
                await self._pool.execute("DELETE FROM videos WHERE name = $1", name)
                return 204, b""
        except FAILURES as error:
            return 503, f"{type(error).__name__}: {error}\n".encode()
        return 405, b""


async def connected(connections: int) -> asyncpg.Pool:
    """The pool, as soon as the database is there."""
    while True:
        try:
            pool = await asyncpg.create_pool(DATABASE, min_size=1, max_size=connections, timeout=_CONNECT_S)
            await pool.execute(TABLE)
            return pool
        except FAILURES as error:
            print(f"waiting for the database: {error}", flush=True)
            await asyncio.sleep(RETRY_S)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--connections", type=int, default=4)
    options = parser.parse_args()
    queue = redis.asyncio.Redis.from_url(QUEUE, socket_connect_timeout=_CONNECT_S)
    await serve(options.listen, Api(await connected(options.connections), queue).answer)


if __name__ == "__main__":
    asyncio.run(main())
