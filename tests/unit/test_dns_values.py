"""What answers of a resolver say, whatever the bytes are."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.system import dns_message


def message(kind: str, *values: bytes) -> bytes:
    """A response to a question for `a.test`, with *values* as answers."""
    asked = bytearray(dns_message.query("a.test", dns_message.KINDS[kind], 7))
    struct.pack_into("!HHH", asked, 2, 0x8180, 1, len(values))
    number = dns_message.KINDS[kind]
    return bytes(asked) + b"".join(
        b"\xc0\x0c" + struct.pack("!HHIH", number, 1, 0, len(value)) + value for value in values
    )


def told(content: bytes, kind: str) -> list[str]:
    return dns_message.values(content, dns_message.question(content), kind)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("A", b"\x0a\0\0\1", "10.0.0.1"),
        ("AAAA", bytes(15) + b"\1", "::1"),
        ("CNAME", b"\3WWW\xc0\x0c", "www.a.test"),
        ("MX", b"\0\x0a\4mail\xc0\x0e", "10 mail.test"),
        ("SRV", b"\0\1\0\2\1\xbb\xc0\x0c", "1 2 443 a.test"),
        ("TXT", b"\2ab\1c", "abc"),
    ],
)
def test_values(kind: str, value: bytes, text: str) -> None:
    assert told(message(kind, value, value), kind) == [text, text]


@pytest.mark.parametrize("value", [b"\xc0\x30", b"\xc0\x24", b"\1a\xc0\x24", b"\xff\xff", b"\7a", b"\x3f" + b"a" * 62])
def test_pointers_that_lead_round_or_ahead_and_names_that_do_not_end_are_left_out(value: bytes) -> None:
    assert told(message("CNAME", value), "CNAME") == []


@given(st.sampled_from(sorted(dns_message.KINDS)), st.binary(max_size=60), st.data())
def test_nothing_is_raised(kind: str, value: bytes, data: st.DataObject) -> None:
    content = bytearray(message(kind, value))
    asked = dns_message.question(bytes(content))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert len(dns_message.values(bytes(content), asked, kind)) <= 512
