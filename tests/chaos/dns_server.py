"""A real resolver (dnsmasq) inside a network namespace, which knows a few names and asks nobody."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

from agent.system import dns_message, libc
from tests.chaos.case import end

RECORDS = {"db.test": "10.1.1.1", "web.test": "10.1.1.2", "deep.zone.test": "10.1.1.3"}
RECORDS6 = {"db.test": "fd00::1"}


def missing() -> str:
    return "" if shutil.which("dnsmasq") else "install dnsmasq-base"


@contextlib.contextmanager
def serving(process: subprocess.Popen[bytes], *addresses: str) -> Iterator[None]:
    """dnsmasq at port 53 of *addresses* in the namespace of *process*."""
    hosts = [f"--host-record={name},{address}" for table in (RECORDS, RECORDS6) for name, address in table.items()]
    command = [
        "nsenter", f"--net=/proc/{process.pid}/ns/net", "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts",
        "--no-resolv", "--bind-interfaces", "--user=root", "--local=/test/", "--mx-host=db.test,mail.test,10",
        "--cache-size=0", *(f"--listen-address={one}" for one in addresses), *hosts,
    ]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        for address in addresses:
            until = time.monotonic() + 5
            while not resolve(process, address, "db.test", wait_s=0.1):
                assert time.monotonic() < until, f"dnsmasq does not answer at {address}"
                assert server.poll() is None, server.stderr.read() if server.stderr else ""
        yield
    finally:
        end(server)
        if server.stderr:
            server.stderr.close()


def resolve(
    process: subprocess.Popen[bytes], resolver: str, name: str, kind: int = dns_message.A, wait_s: float = 1.0
) -> bytes:
    """The answer to a question that is asked inside the namespace; empty when none comes."""
    family = socket.AF_INET6 if ":" in resolver else socket.AF_INET
    with inside(process, family) as channel:
        channel.settimeout(wait_s)
        try:
            channel.connect((resolver, 53))
            channel.send(dns_message.query(name, kind, 4711))
            return channel.recv(4096)
        except OSError:
            return b""


def inside(process: subprocess.Popen[bytes], family: int) -> socket.socket:
    """A UDP socket of the namespace: made by a thread that enters it and ends."""
    made: list[socket.socket] = []

    def make() -> None:
        libc.enter_network(f"/proc/{process.pid}/ns/net")
        made.append(socket.socket(family, socket.SOCK_DGRAM))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]
