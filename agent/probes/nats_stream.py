"""JetStream by its API: a stream made once, consumers of it, and the records of a ledger read back.

Invariant: what is read back is whole, up to the last record that the stream's leader has when the reading begins, or it
is an error. Source: docs of NATS, "JetStream wire API".
"""

from __future__ import annotations

from typing import Any, Final

from agent.probes.nats_wire import NatsWire
from agent.probes.rotation import BrokenError, ErrorAnswerError

MISSING: Final = 404  # there is no such stream, or no such message in it
_BATCH: Final = 2000  # records that one request asks for
_WAIT_NS: Final = 1_000_000_000
_UNUSED_NS: Final = 10_000_000_000
_HOUR_NS: Final = 3_600_000_000_000


async def make(connection: NatsWire, stream: str, subjects: str, replicas: int, storage: str, *, keep: bool) -> None:
    """The stream, unless there is one of that name. *keep*: its messages stay; else for an hour."""
    try:
        await connection.ask(f"$JS.API.STREAM.INFO.{stream}")
    except ErrorAnswerError as error:
        if error.status != MISSING:
            raise
        config = {
            "name": stream, "subjects": [subjects], "num_replicas": replicas, "storage": storage,
            "retention": "limits", "discard": "old", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1,
            "max_age": 0 if keep else _HOUR_NS,
        }  # fmt: skip
        await connection.ask(f"$JS.API.STREAM.CREATE.{stream}", config)


async def leads(connection: NatsWire, stream: str) -> bool:
    """Whether the server at the other end is the stream's leader; one that is in no cluster is."""
    answer = await connection.ask(f"$JS.API.STREAM.INFO.{stream}")
    cluster = answer.get("cluster")
    return cluster is None or cluster.get("leader") == connection.info.get("server_name")


async def consume(connection: NatsWire, stream: str, subject: str, config: dict[str, Any]) -> str:
    """The name of a new consumer, which goes when nobody asks it."""
    config = {
        "ack_policy": "none", "replay_policy": "instant", "filter_subject": subject, "mem_storage": True,
        "inactive_threshold": _UNUSED_NS, **config,
    }  # fmt: skip
    question = {"stream_name": stream, "config": config}
    answer = await connection.ask(f"$JS.API.CONSUMER.CREATE.{stream}", question)
    return str(answer.get("name", ""))


async def numbers(connection: NatsWire, stream: str, subject: str) -> list[int]:
    """Of the records under *subject*, in the order of the stream. ErrorAnswerError (MISSING): there are none."""
    state = await connection.ask(f"$JS.API.STREAM.INFO.{stream}", {"subjects_filter": subject})
    count = ((state.get("state") or {}).get("subjects") or {}).get(subject, 0)
    last = await connection.ask(f"$JS.API.STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    last_sequence = int(last["message"]["seq"])
    consumer = await consume(connection, stream, subject, {"deliver_policy": "all"})
    found: list[int] = []
    awaited = sequence = 0
    while sequence < last_sequence:
        if awaited == 0:
            question = {"batch": _BATCH, "expires": _WAIT_NS}
            await connection.send(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", question)
            awaited = _BATCH
        message = await connection.delivered()
        if message.status:  # the request has ended before as many were there
            awaited = 0
            continue
        awaited -= 1
        sequence = _sequence(message.reply)
        if sequence <= last_sequence:
            found.append(int(message.content) if message.content.isdigit() else -sequence)
    if len(found) < count:
        raise BrokenError(f"a consumer was given {len(found)} records of {count} that the leader has")
    return found


def _sequence(reply: str) -> int:
    """The place in the stream that `$JS.ACK.…` names; newer servers may put a domain and an account in front."""
    words = reply.split(".")
    try:
        return int(words[5 if len(words) == 9 else 7])
    except (ValueError, IndexError) as error:
        raise BrokenError(f"no delivery of a consumer: {reply[:80]!r}") from error
