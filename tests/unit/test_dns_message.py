"""Answers rewritten, without a kernel: whatever the bytes are, nothing raises; what is not meant stays as it was."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.faults import mangle_dns
from agent.system import checksum, dns_message
from agent.system.queue_engine import ACCEPT, DROP, Fate
from tests.unit.test_mangle import ipv4, ipv6, packet

ADDRESSES = [ipaddress.ip_address("192.0.2.9").packed.hex(), ipaddress.ip_address("2001:db8::9").packed.hex()]
MODES = st.sampled_from(["nxdomain", "servfail", "wrong", "slow", "timeout"])
LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
NAMES = st.lists(LABEL, min_size=1, max_size=6).map(".".join)
OPTION = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)


def response(
    name: str, kind: int = 1, number: int = 7, answers: bytes = b"", count: int = 0, extra: bytes = b""
) -> bytes:
    asked = bytearray(dns_message.query(name, kind, number))
    struct.pack_into("!HHHHH", asked, 2, 0x8180, 1, count, 0, bool(extra))
    return bytes(asked) + answers + extra


def datagram(message: bytes, source: int = 53) -> bytes:
    return struct.pack("!HHHH", source, 4711, 8 + len(message), 0) + message


def decided(mode: str, content: bytes, names: list[str] | None = None) -> int | Fate:
    arguments = {"names": names or [], "mode": mode, "addresses": ADDRESSES, "delay_ms": 5.0}
    return mangle_dns.decider(arguments)(packet(content), 1000)


def opened(content: bytes) -> bytes:
    """The message in a packet whose lengths and checksums are right."""
    if content[0] >> 4 == 4:
        header, pseudo = 20, content[12:20] + struct.pack("!HH", 17, len(content) - 20)
        assert checksum.internet(content[:20]) == 0
        assert struct.unpack_from("!H", content, 2) == (len(content),)
    else:
        header, pseudo = 40, content[8:40] + struct.pack("!II", len(content) - 40, 17)
        assert struct.unpack_from("!H", content, 4) == (len(content) - 40,)
    assert struct.unpack_from("!H", content, header + 4) == (len(content) - header,)
    assert checksum.internet(pseudo, content[header:]) == 0
    return content[header + 8 :]


@given(MODES, st.binary(max_size=200), st.booleans())
def test_whatever_comes_from_port_53_nothing_raises(mode: str, body: bytes, six: bool) -> None:
    content = ipv6(17, datagram(body)) if six else ipv4(17, datagram(body))
    decided(mode, content)
    decided(mode, content[: len(content) // 2])
    decided(mode, ipv4(17, body))


@given(MODES, NAMES, st.data())
def test_a_broken_answer_is_let_through_or_answered_whole(mode: str, name: str, data: st.DataObject) -> None:
    message = bytearray(
        response(name, answers=b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 9, 4) + b"abcd", count=1, extra=OPTION)
    )
    for _ in range(data.draw(st.integers(1, 5))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    fate = decided(mode, ipv4(17, datagram(bytes(message))))
    if isinstance(fate, Fate):
        assert fate.payload is not None
        changed = opened(fate.payload)
        assert dns_message.question(changed)


@given(NAMES, st.booleans(), st.integers(0, 65535))
def test_an_answer_keeps_its_number_its_question_and_its_option(name: str, six: bool, number: int) -> None:
    message = response(name, number=number, extra=OPTION)
    content = (ipv6 if six else ipv4)(17, datagram(message))
    fate = decided("nxdomain", content, [name])
    assert isinstance(fate, Fate)
    assert fate.payload is not None
    changed = opened(fate.payload)
    asked = dns_message.question(changed)
    assert (changed[:2], asked.name, dns_message.code(changed)) == (message[:2], name, dns_message.NXDOMAIN)
    assert changed.endswith(OPTION)
    assert struct.unpack_from("!4H", changed, 4) == (1, 0, 0, 1)


@pytest.mark.parametrize(("kind", "found"), [(1, ["192.0.2.9"]), (28, ["2001:db8::9"])])
def test_wrong_addresses_are_of_the_kind_that_was_asked(kind: int, found: list[str]) -> None:
    fate = decided("wrong", ipv4(17, datagram(response("db.test", kind))))
    assert isinstance(fate, Fate)
    assert fate.payload is not None
    changed = opened(fate.payload)
    assert dns_message.addresses(changed, dns_message.question(changed)) == found
    assert changed[-len(bytes.fromhex(ADDRESSES[kind == 28])) - 6 :][:4] == bytes(4), "nobody is to keep it"


@pytest.mark.parametrize("mode", ["nxdomain", "servfail", "wrong", "slow", "timeout"])
def test_what_is_not_meant_passes(mode: str) -> None:
    query = dns_message.query("db.test", 1, 7)
    meant = response("db.test")
    for content in (
        ipv4(17, datagram(response("web.test"))), ipv4(17, datagram(query)), ipv4(17, datagram(meant, 54)),
        ipv4(17, datagram(meant), fragment=100), ipv4(6, datagram(meant)),
    ):  # fmt: skip
        assert decided(mode, content, ["db.test"]) == ACCEPT
    if mode == "wrong":
        assert decided(mode, ipv4(17, datagram(response("db.test", 15)))) == ACCEPT


def test_late_and_never() -> None:
    content = ipv4(17, datagram(response("db.test")))
    assert decided("slow", content) == 1000 + 5_000_000
    assert decided("timeout", content) == DROP


@given(NAMES)
def test_a_zone_means_all_below_it_and_not_itself(name: str) -> None:
    meant = mangle_dns.matcher([f"*.{name}"])
    assert meant(f"a.{name}")
    assert meant(f"a.b.{name}")
    assert not meant(name)
    assert not meant(f"x{name}")
    assert mangle_dns.matcher([name])(name)
    assert not mangle_dns.matcher([name])(f"a.{name}")
    assert mangle_dns.matcher([])(name)
