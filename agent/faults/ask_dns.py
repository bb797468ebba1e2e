"""What a resolver answers: the independent look at `network.dns`, in a process of its own inside the namespace.

`python -m agent.faults.ask_dns` reads {network, resolver, name, kind, timeout_s, tries} and writes an `Answer`. It
knows nothing of rules or queues.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any, Final

import msgspec

from agent.system import dns_message, libc

_TRIES: Final = 2  # one datagram may be lost by itself
_PORT: Final = 53
_SIZE_MAX: Final = 4096


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """*code* -1: none came. *took_ms* from the (last) question to the answer, or to giving up."""

    code: int = -1
    addresses: list[str] = []
    took_ms: float = 0.0

    @property
    def words(self) -> str:
        if self.code < 0:
            return f"no answer within {self.took_ms:.0f} ms"
        name = dns_message.CODES.get(self.code, f"code {self.code}")
        listed = f" {', '.join(self.addresses)}" if self.addresses else ""
        return f"{name}{listed} after {self.took_ms:.1f} ms"


async def ask(facts: dict[str, Any], timeout_s: float, tries: int = _TRIES) -> Answer:
    """What the resolver of *facts* (network, resolver, ask, ask_kind) answers now."""
    question = {
        "network": facts["network"], "resolver": facts["resolver"], "name": facts["ask"], "kind": facts["ask_kind"],
        "timeout_s": timeout_s, "tries": tries,
    }  # fmt: skip
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", "agent.faults.ask_dns", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        output, _ = await child.communicate(json.dumps(question).encode())
    except asyncio.CancelledError:
        child.kill()
        raise
    return msgspec.json.decode(output, type=Answer) if child.returncode == 0 else Answer()


def main() -> None:
    question: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    if question["network"]:
        libc.enter_network(question["network"])
    answer = Answer()
    for _ in range(question["tries"]):
        answer = _once(question["resolver"], question["name"], question["kind"], question["timeout_s"])
        if answer.code >= 0:
            break
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def _once(resolver: str, name: str, kind: int, timeout_s: float) -> Answer:
    number = int.from_bytes(os.urandom(2), "big")
    begun = time.monotonic()
    with socket.socket(socket.AF_INET6 if ":" in resolver else socket.AF_INET, socket.SOCK_DGRAM) as channel:
        try:
            channel.connect((resolver, _PORT))
            channel.send(dns_message.query(name, kind, number))
            while (left_s := begun + timeout_s - time.monotonic()) > 0:
                channel.settimeout(left_s)
                message = channel.recv(_SIZE_MAX)
                took_ms = (time.monotonic() - begun) * 1e3
                try:
                    asked = dns_message.question(message)
                except dns_message.MalformedError:
                    continue
                if message[:2] == number.to_bytes(2, "big"):
                    found = dns_message.addresses(message, asked)
                    return Answer(code=dns_message.code(message), addresses=found, took_ms=took_ms)
        except OSError:  # silence, or a refusal by ICMP: no answer either way
            pass
    return Answer(took_ms=(time.monotonic() - begun) * 1e3)


if __name__ == "__main__":
    main()
