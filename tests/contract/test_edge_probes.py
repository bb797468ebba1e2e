"""What the probes `object`, `dns` and `grpc` tell apart, on real servers."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent.probes.engine import ProbeEngine
from agent.probes.registry import build
from protos.recovery import Code
from tests.contract import web_rig
from tests.contract.edge_rig import DnsRig, GrpcRig, asked
from tests.contract.probe_rig import _certified
from tests.contract.web_rig import Nginx

needs_nginx = pytest.mark.skipif(bool(web_rig.missing()), reason=web_rig.missing() or "-")


@pytest.fixture
def nginx():
    made = Nginx()
    made.start()
    yield made
    made.remove()


@pytest.fixture
def other():
    made = Nginx()
    made.start()
    yield made
    made.remove()


@needs_nginx
async def test_objects(nginx):
    url = f"{nginx.url}bucket/"
    assert await asked("object", url=url, mode="put") is Code.OK
    assert await asked("object", url=url, mode="verify", size_bytes=100_000, keepalive=True) is Code.OK
    assert await asked("object", url=f"{nginx.url}closed/", mode="put") is Code.BAD
    assert await asked("object", url=f"{nginx.url}a") is Code.BAD
    nginx.write("a", "b")
    assert await asked("object", url=f"{nginx.url}a") is Code.OK
    assert list((nginx.www / "bucket").iterdir()) == [], "it takes away what it had put"


@needs_nginx
@pytest.mark.parametrize("lost", [0, 1, 40])
async def test_a_planted_loss_of_objects_is_reported_exactly(nginx, other, tmp_path, lost):
    engine = ProbeEngine(sink=lambda *_: None, ledgers=tmp_path)
    spec = {
        "url": f"{nginx.url}bucket/",
        "mode": "ledger",
        "keepalive": True,
        "members": {"other": f"{other.url}bucket/"},
    }
    await engine.start("run", "l", "object", spec, interval_ms=2, timeout_ms=2000)
    until = time.monotonic() + 30
    while len(found := sorted((nginx.www / "bucket").glob("*-*"))) < lost + 60:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    running = engine._probes["run", "l"]
    if lost == 40:
        nginx.stop()  # writes are refused for a while, and the ledger goes on
        await asyncio.sleep(0.1)
        nginx.start()
    while running.probe.ledger.full or running.probe.ledger.written().acknowledged_ns[-1] == 0:
        await asyncio.sleep(0.01)
    name = found[0].name.rpartition("-")[0]
    (other.www / "bucket").mkdir()
    for number in range(10, 10 + lost):
        path = nginx.www / "bucket" / f"{name}-{number}"
        if number == 12:
            path.write_text("another content")
        else:
            path.rename(other.www / "bucket" / path.name)
    balance = await engine.ledger("run", "l")
    assert (balance["complete"], balance["lost"]) == (True, lost)
    assert balance["lost_ranges"] == ([[10, 9 + lost]] if lost else [])
    assert balance["members"]["other"]["acknowledged_only_there"] == (lost if lost < 3 else lost - 1)
    assert (balance["unknown"] > 0) == (lost == 40)
    await engine.close()
    assert list((nginx.www / "bucket").iterdir()) in ([], [nginx.www / "bucket" / f"{name}-12"])


@needs_nginx
async def test_a_store_that_says_no_has_refused_and_one_that_is_busy_is_not_read_back(nginx, tmp_path):
    engine = ProbeEngine(sink=lambda *_: None, ledgers=tmp_path)
    for place, refuses in (("closed/", True), ("busy/", False)):
        spec = {"url": nginx.url + place, "mode": "ledger"}
        await engine.start("run", place, "object", spec, interval_ms=10)
        await asyncio.sleep(0.2)
        balance = await engine.ledger("run", place, wait_s=0.1)
        assert balance["acknowledged"] == 0
        assert (balance["refused"] > 5, balance["unknown"] < 5) == (refuses, refuses)
        assert balance["complete"] == refuses
    await engine.close()


@pytest.fixture
def dns():
    made = DnsRig()
    if lacks := made.missing():
        pytest.skip(lacks)
    made.start()
    yield made
    made.remove()


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"name": "web.test"}, Code.OK),
        ({"name": "WEB.test.", "expect": ["10.1.1.3", "10.1.1.2"]}, Code.OK),
        ({"name": "web.test", "expect": ["10.1.1.4"]}, Code.BAD),
        ({"name": "web.test", "kind": "AAAA", "expect": ["fd00::2"]}, Code.OK),
        ({"name": "www.test", "kind": "CNAME", "expect": ["web.test."]}, Code.OK),
        ({"name": "www.test", "expect": ["10.1.1.2"]}, Code.OK),
        ({"name": "test", "kind": "MX", "expect": ["10 mail.test"]}, Code.OK),
        ({"name": "test", "kind": "TXT", "expect": ["v=spf1-all"]}, Code.OK),
        ({"name": "_x._tcp.test", "kind": "SRV", "expect": ["1 2 443 web.test"]}, Code.OK),
        ({"name": "2.1.1.10.in-addr.arpa", "kind": "PTR", "expect": ["web.test"]}, Code.OK),
        ({"name": "web.test", "kind": "MX"}, Code.BAD),
        ({"name": "none.test"}, Code.BAD),
        ({"name": "none.test", "code": "NXDOMAIN"}, Code.OK),
        ({"name": "web.test", "code": "NXDOMAIN"}, Code.BAD),
        ({"name": "elsewhere.org", "code": "REFUSED"}, Code.OK),
        ({"name": "many.test"}, Code.BAD),
    ],
)
async def test_answers_of_a_resolver(dns, spec, code):
    assert await asked("dns", server="127.0.0.1", port=dns.port, **spec) is code


async def test_a_forged_or_broken_answer_is_not_an_answer():
    """Another number, another name, a question, and bytes: then the real one."""

    class Forger(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, question, address):
            real = question[:2] + b"\x81\x80" + question[4:6] + b"\0\1\0\0\0\0" + question[12:]
            real += b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x0a\0\0\1"
            forged = bytes([question[0] ^ 1]) + real[1:]
            for one in (forged, question, b"", b"\xff" * 20, real.replace(b"web", b"wed")):
                self.transport.sendto(one, address)
            if not silent:
                self.transport.sendto(real, address)

    silent = False
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Forger, ("127.0.0.1", 0))
    spec = {"server": "127.0.0.1", "port": transport.get_extra_info("sockname")[1], "name": "web.test"}
    assert await asked("dns", **spec, expect=["10.0.0.1"]) is Code.OK
    silent = True
    assert await asked("dns", 0.1, **spec) is Code.TIMEOUT
    transport.close()


@pytest.fixture
async def health(tmp_path):
    made = GrpcRig(tmp_path)
    yield made
    made.remove()


async def test_a_service_of_a_server_that_does_not_serve(health):
    spec = await health.up()
    assert await asked("grpc", **spec, service="encode") is Code.BAD, "not known"
    health.set("encode", "SERVING")
    assert await asked("grpc", **spec, service="encode") is Code.OK
    for status in ("NOT_SERVING", "UNKNOWN", "SERVICE_UNKNOWN"):
        health.set("encode", status)
        assert await asked("grpc", **spec, service="encode") is Code.BAD
    health.set("-", "NOT_SERVING")
    assert await asked("grpc", **spec) is Code.BAD


@pytest.mark.parametrize("keepalive", [True, False])
async def test_recovery_is_seen_by_the_first_attempt_after_an_outage(health, keepalive):
    """gRPC's own client would wait for more than a second after so many failures."""
    probe = build("grpc", await health.up() | {"keepalive": keepalive}, lambda _: False)
    assert await probe.attempt(5.0) is Code.OK
    await health.down()
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert await probe.attempt(0.5) is Code.REFUSED
        await asyncio.sleep(0.02)
    health.start()
    assert await probe.attempt(0.5) is Code.OK
    await probe.close()


async def test_tls_and_a_certificate_that_is_not_trusted(health, tmp_path):
    _certified(tmp_path)
    health.words = lambda: [str(tmp_path)]
    target = {"target": (await health.up())["target"].replace("127.0.0.1", "localhost"), "tls": True}
    assert await asked("grpc", **target, ca_path=str(tmp_path / "cert.pem")) is Code.OK
    assert await asked("grpc", 2.0, **target) is Code.REFUSED
    assert await asked("grpc", 2.0, **target, ca_path=str(tmp_path / "cert.pem"), server_name="other") is Code.REFUSED
