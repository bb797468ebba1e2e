"""Every packet that comes here is sent once more. Which part of all comes here, the kernel draws."""

from __future__ import annotations

from typing import Any

from agent.system.queue_engine import WHOLE, Fate, Packet, Stream


def stream(arguments: dict[str, Any], side: str) -> Stream:
    del arguments, side
    return Stream(lambda packet, _: decide(packet), copy_bytes=WHOLE, segment=True)


def decide(packet: Packet) -> Fate:
    """The packet goes its way; its copy starts anew from this node, with the mark that keeps it from coming back."""
    return Fate(send=packet.content)
