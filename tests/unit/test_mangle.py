"""What is decided over a packet, without a kernel."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.faults import mangle_corrupt, mangle_delay, mangle_pace
from agent.system.queue_engine import ACCEPT, DROP, Fate, Packet

MS = 1_000_000


def packet(content: bytes = b"", length: int = 0) -> Packet:
    made = Packet(bytearray(b"head" + content))
    made.start, made.end, made.length = 4, 4 + len(content), length or len(content)
    return made


def ipv4(protocol: int, body: bytes, fragment: int = 0) -> bytes:
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, fragment, 64, protocol, 0, b"abcd", b"efgh") + body


def ipv6(protocol: int, body: bytes) -> bytes:
    return struct.pack("!IHBB16s16s", 0x60000000, len(body), protocol, 64, b"a" * 16, b"b" * 16) + body


@given(st.integers(0, 10**15))
def test_a_delay_without_jitter_is_exact(now_ns: int) -> None:
    assert mangle_delay.instant(12.5, 0)(now_ns) == now_ns + 12_500_000


@given(st.floats(0.001, 1000), st.floats(0, 1), st.integers(0, 10**15))
def test_jitter_stays_within_its_bounds(delay_ms: float, part: float, now_ns: int) -> None:
    later_ms = (mangle_delay.instant(delay_ms, delay_ms * part)(now_ns) - now_ns) / MS
    assert delay_ms * (1 - part) - 1e-5 <= later_ms <= delay_ms * (1 + part) + 1e-5


def test_a_burst_passes_then_packets_wait_their_turn_and_too_long_a_wait_is_a_drop() -> None:
    decide = mangle_pace.decider(8.0, 2.0, 3.0)  # 1 kB a ms, 2 kB at once, 3 ms at most
    now_ns = 10 * MS
    fates = [decide(packet(length=1000), now_ns) for _ in range(6)]
    assert fates == [ACCEPT, ACCEPT, now_ns + MS, now_ns + 2 * MS, now_ns + 3 * MS, DROP]
    assert decide(packet(length=1000), now_ns + MS) == now_ns + 4 * MS, "what is dropped takes no room"


@given(st.lists(st.tuples(st.integers(40, 1500), st.integers(0, 3 * MS)), min_size=50, max_size=200))
def test_no_more_passes_than_burst_and_rate(arrivals: list[tuple[int, int]]) -> None:
    rate_mbit, burst_kb = 10.0, 4.0
    decide, now_ns, passed = mangle_pace.decider(rate_mbit, burst_kb, 50.0), 0, []
    for length, later_ns in arrivals:
        now_ns += later_ns
        fate = decide(packet(length=length), now_ns)
        assert isinstance(fate, int)
        if fate != DROP:
            passed.append((fate or now_ns, length))
    assert [at for at, _ in passed] == sorted(at for at, _ in passed), "in order"
    for at_ns, _ in passed:
        so_far = sum(length for other_ns, length in passed if other_ns <= at_ns)
        assert so_far <= burst_kb * 1e3 + at_ns * rate_mbit / 8e3 + 2


@pytest.mark.parametrize(
    ("content", "first", "payload"),
    [
        (ipv4(6, bytes(12) + b"\x80" + bytes(19) + b"payload"), 20, 52),
        (ipv4(17, bytes(8) + b"payload"), 20, 28),
        (ipv4(17, b"payload", fragment=5), 20, 20),
        (ipv4(99, b"payload"), 20, 20),
        (ipv6(58, bytes(8) + b"payload"), 40, 48),
        (ipv6(0, b"\x11\x00" + bytes(6) + bytes(8) + b"payload"), 48, 56),
    ],
)
def test_the_flipped_bit_is_one_and_in_the_payload(content: bytes, first: int, payload: int) -> None:
    assert mangle_corrupt.transport(content) == (first, payload)
    for _ in range(50):
        fate = mangle_corrupt.decide(packet(content))
        assert isinstance(fate, Fate)
        assert fate.payload is not None
        changed = [at for at, (old, new) in enumerate(zip(content, fate.payload, strict=True)) if old != new]
        assert len(changed) == 1
        assert changed[0] >= payload
        assert (content[changed[0]] ^ fate.payload[changed[0]]).bit_count() == 1


def test_without_a_payload_the_bit_is_in_the_transports_header() -> None:
    content = ipv4(6, bytes(12) + b"\x50" + bytes(7))
    fate = mangle_corrupt.decide(packet(content))
    assert isinstance(fate, Fate)
    assert fate.payload is not None
    assert fate.payload[:20] == content[:20]
    assert fate.payload != content


def test_a_packet_without_a_transport_goes_as_it_is() -> None:
    assert mangle_corrupt.decide(packet(ipv4(99, b""))) == ACCEPT
