"""Valid examples of all that is read from outside: what a fuzzer starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from agent.faults.registry import KINDS
from agent.system import dns_message
from protos import blackstart_agent_pb2 as pb
from protos.catalogue import catalogue

KINDS_SORTED: Final = sorted(KINDS)
ROOT: Final = Path(__file__).parents[2]
POLICY: Final = b"faults: [process.*, network.partition]\nlongest_s: 60\nprotected_ports: [22]\ncommands: [[ls, '*']]\n"


def examples() -> list[bytes]:
    """A good order of every kind, after the byte that says what order it is."""
    rows = catalogue()
    asked = {"injection": "i", "duration_s": 10.0, "on_lost_controller": "revert", "follow": False}
    return [
        b"\0" + msgspec.json.encode({"fault": kind, "spec": rows[kind]["page"]["example"], **asked})
        for kind in KINDS_SORTED
    ]  # fmt: skip


def messages() -> list[bytes]:
    return [
        pb.ControllerMessage(
            order=pb.Order(id="1", kind="fault.inject", arguments_json=body[1:], run_id="r", epoch=3, deadline_s=30)
        ).SerializeToString()
        for body in examples()
    ] + [pb.ControllerMessage(welcome=pb.Welcome(epoch=3, lease_s=15)).SerializeToString()]


def files(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(ROOT.glob(pattern))]


def answers() -> list[bytes]:
    asked = bytearray(dns_message.query("db.test", 1, 7))
    asked[2:4] = b"\x81\x80"
    udp = b"\0\x35\x12\x67" + (8 + len(asked)).to_bytes(2, "big") + b"\0\0" + bytes(asked)
    four = b"\x45\0" + (20 + len(udp)).to_bytes(2, "big") + b"\0\1\0\0\x40\x11\0\0abcdefgh" + udp
    six = b"\x60\0\0\0" + len(udp).to_bytes(2, "big") + b"\x11\x40" + b"a" * 16 + b"b" * 16 + udp
    return [bytes([mode]) + content for mode in range(5) for content in (four, six)]
