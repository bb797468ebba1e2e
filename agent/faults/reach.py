"""Whether a peer answers: the independent look at a cut, in a process of its own inside the namespace.

`python -m agent.faults.reach` reads {network, peers, port, protocol, timeout_s} and writes one {peer: how} a line:
"answers" or why not. It knows nothing of nftables.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import struct
import subprocess
import sys
import time
from typing import Any

from agent.system import checksum, libc

ANSWERS = "answers"


async def look(network: str, peers: list[str], port: int, protocol: str, timeout_s: float) -> dict[str, str]:
    """What each address answers to an echo request, or to a connection where a TCP *port* is given."""
    question = {"network": network, "peers": peers, "port": port, "protocol": protocol, "timeout_s": timeout_s}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", "agent.faults.reach", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    output, _ = await child.communicate(json.dumps(question).encode())
    answer: dict[str, str] = json.loads(output) if child.returncode == 0 else {}
    return answer


def main() -> None:
    question: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    if question["network"]:
        libc.enter_network(question["network"])
    port, timeout_s = question["port"], question["timeout_s"]
    ask = _connect if port and question["protocol"] != "udp" else _echo
    print(json.dumps({peer: ask(peer, port, timeout_s) for peer in question["peers"]}))


def _connect(peer: str, port: int, timeout_s: float) -> str:
    try:
        socket.create_connection((peer, port), timeout_s).close()
    except ConnectionRefusedError:
        return ANSWERS  # a refusal is an answer: the way there and back is open
    except TimeoutError:
        return "no answer in time"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return ANSWERS


def _echo(peer: str, port: int, timeout_s: float) -> str:
    del port
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    request, reply = (128, 129) if family == socket.AF_INET6 else (8, 0)
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    with socket.socket(family, socket.SOCK_RAW, protocol) as channel:
        mark = os.urandom(8)
        body = struct.pack("!BBHHH", request, 0, 0, os.getpid() & 0xFFFF, 1) + mark
        packet = body[:2] + struct.pack("!H", checksum.internet(body)) + body[4:]
        until = time.monotonic() + timeout_s
        try:
            channel.sendto(packet, (peer, 0))
            while (left_s := until - time.monotonic()) > 0:
                channel.settimeout(left_s)
                answer = channel.recv(2048)
                header = 0 if family == socket.AF_INET6 else (answer[0] & 0xF) * 4
                if answer[header] == reply and answer.endswith(mark):
                    return ANSWERS
        except TimeoutError:
            return "no answer in time"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
    return "no answer in time"


if __name__ == "__main__":
    main()
