"""Real services for the probes of the edge: nginx for `hls` and `object`, dnsmasq for `dns`, a gRPC server."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import grpc.aio

from agent.probes.registry import build
from agent.system import dns_message
from protos.recovery import Code
from tests.contract import web_rig
from tests.contract.server_rig import free_port
from tests.contract.web_rig import Nginx

MEDIA = """\
#EXTM3U
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:7
#EXTINF:2.0,
seg-7.m4s
#EXTINF:2.0,
seg-8.m4s
"""
MASTER = """\
#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=800000,RESOLUTION=640x360,CODECS="avc1.64001e,mp4a.40.2"
low/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=3000000,RESOLUTION=1280x720
high/index.m3u8
"""


async def asked(kind, timeout_s=5.0, /, **spec):
    probe = build(kind, spec, lambda _: False)
    await probe.open()
    try:
        return await probe.attempt(timeout_s)
    finally:
        await probe.close()


class NginxRig:
    """A server that is stopped, and one that is frozen."""

    hangs_as = Code.TIMEOUT
    missing = staticmethod(web_rig.missing)

    def __init__(self, path: Path) -> None:
        del path
        self.server = Nginx()

    def spec(self) -> dict[str, Any]:
        raise NotImplementedError

    async def up(self) -> dict[str, Any]:
        self.server.start()
        return self.spec()

    async def down(self) -> None:
        self.server.stop()

    async def hang(self) -> None:
        self.server.signal(signal.SIGSTOP)

    def remove(self) -> None:
        self.server.remove()


class HlsRig(NginxRig):
    kind = "hls"
    bad_spec: ClassVar[dict[str, Any]] = {"url": "rtmp://x/y", "age_max_s": -1, "origins": ["x"], "rungs_min": 99}
    bad_fields: ClassVar[set[str]] = {"url", "age_max_s", "origins", "rungs_min"}

    def spec(self) -> dict[str, Any]:
        self.server.write("live.m3u8", MASTER)
        for rung in ("low", "high"):
            self.server.write(f"{rung}/index.m3u8", MEDIA)
            self.server.write(f"{rung}/seg-8.m4s", b"x" * 1000)
        return {"url": f"{self.server.url}live.m3u8", "age_max_s": 60, "fetch_segment": True, "keepalive": True}


class ObjectRig(NginxRig):
    kind = "object"
    bad_spec: ClassVar[dict[str, Any]] = {"url": "s3://b/", "size_bytes": 0, "members": {"a": "b"}, "mode": "put"}
    bad_fields: ClassVar[set[str]] = {"url", "size_bytes", "members"}

    def spec(self) -> dict[str, Any]:
        return {"url": f"{self.server.url}objects/", "mode": "verify"}


class DnsRig:
    """dnsmasq, which asks nobody."""

    kind = "dns"
    hangs_as = Code.TIMEOUT
    bad_spec: ClassVar[dict[str, Any]] = {"server": "", "name": "a..b", "port": 0, "code": "NXDOMAIN", "expect": ["x"]}
    bad_fields: ClassVar[set[str]] = {"server", "name", "port", "expect"}

    def __init__(self, path: Path | None = None) -> None:
        del path
        self.port = free_port(socket.SOCK_DGRAM, socket.SOCK_STREAM)  # dnsmasq takes both or ends
        self.process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str:
        return "" if shutil.which("dnsmasq") else "install dnsmasq-base"

    async def up(self) -> dict[str, Any]:
        self.start()
        return {"server": "127.0.0.1", "port": self.port, "name": "web.test", "expect": ["10.1.1.2"]}

    def start(self) -> None:
        command = [
            "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--bind-interfaces",
            "--user=root", "--local=/test/", "--cache-size=0", f"--port={self.port}", "--listen-address=127.0.0.1",
            "--host-record=web.test,10.1.1.2,fd00::2", "--host-record=web.test,10.1.1.3", "--cname=www.test,web.test",
            "--mx-host=test,mail.test,10", "--txt-record=test,v=spf1,-all", "--srv-host=_x._tcp.test,web.test,443,1,2",
            *(f"--host-record=many.test,10.9.{number // 250}.{1 + number % 250}" for number in range(400)),
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 20
        with socket.socket(type=socket.SOCK_DGRAM) as channel:
            channel.settimeout(0.05)
            channel.connect(("127.0.0.1", self.port))
            while True:
                try:
                    channel.send(dns_message.query("web.test", dns_message.A, 1))
                    channel.recv(4096)
                    return
                except OSError:
                    assert self.process.poll() is None, f"dnsmasq ended with {self.process.returncode}"
                    assert time.monotonic() < until, "dnsmasq does not answer"
                    time.sleep(0.01)

    async def down(self) -> None:
        self.remove()

    async def hang(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def remove(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class GrpcRig:
    """The health service of grpcio-health-checking in a process of its own."""

    kind = "grpc"
    hangs_as = Code.TIMEOUT
    bad_spec: ClassVar[dict[str, Any]] = {"target": "x", "ca_path": "/nowhere", "keepalive": 3}
    bad_fields: ClassVar[set[str]] = {"keepalive"}
    more: ClassVar[dict[str, Any]] = {}

    def __init__(self, path: Path) -> None:
        self.path, self.port = path, free_port()
        self.process: subprocess.Popen[str] | None = None
        self.agents: Any = None  # an agent has a channel of its own, which keeps what gRPC has once a process

    @staticmethod
    def missing() -> str:
        return ""

    def words(self) -> list[str]:
        return []

    async def up(self) -> dict[str, Any]:
        self.agents = self.agents or grpc.aio.insecure_channel("127.0.0.1:1")
        self.start()
        return {"target": f"127.0.0.1:{self.port}", **self.more}

    def start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("health_server.py")), str(self.port), *self.words()]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._told("ready")

    def set(self, service: str, status: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{service} {status}\n")
        self.process.stdin.flush()
        self._told("set")

    async def down(self) -> None:
        self.remove()

    async def hang(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def drop(self) -> None:
        """Nothing to reset; sockets are closed by gRPC's own threads, in a moment."""
        time.sleep(0.002)

    def remove(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
            self.process = None

    def _told(self, word: str) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{word}\n"


class GrpcFreshRig(GrpcRig):
    bad_spec: ClassVar[dict[str, Any]] = {"target": "host:0", "service": "x" * 1001, "server_name": "y"}
    bad_fields: ClassVar[set[str]] = {"target", "service", "tls"}
    more: ClassVar[dict[str, Any]] = {"keepalive": False}


EDGE_RIGS: list[type[Any]] = [HlsRig, ObjectRig, DnsRig, GrpcRig, GrpcFreshRig]
