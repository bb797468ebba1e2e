"""Every packet that comes here is sent once more. Which part of all comes here, the kernel draws."""

from __future__ import annotations

from typing import Any

from agent.system import queue_table
from agent.system.queue_engine import WHOLE, Fate, Packet, Stream
from agent.system.queue_sender import Sender


def streams(arguments: dict[str, Any]) -> dict[str, Stream]:
    sender = Sender(arguments["mark"])
    return {
        side: Stream(lambda packet, _: decide(packet), copy_bytes=WHOLE, segment=True, sender=sender)
        for side in queue_table.sides(arguments["direction"])
    }


def decide(packet: Packet) -> Fate:
    """The packet goes its way; its copy starts anew from this node, with the mark that keeps it from coming back."""
    return Fate(send=packet.content)
