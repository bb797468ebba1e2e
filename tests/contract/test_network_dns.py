"""`network.dns` before a real resolver: every mode, by name, over IPv4 and IPv6, and nobody else's answers."""

from __future__ import annotations

import socket
import subprocess
import time

import pytest

from agent.system import dns_message, table_look
from protos.error import RefusedError, SpecError
from tests.chaos import dns_server
from tests.chaos.dns_server import resolve
from tests.chaos.subject import network, network_dns
from tests.chaos.subject.network_queue import FAR, NEAR, pair
from tests.contract.packet_rig import held, planned

pytestmark = pytest.mark.skipif(bool(network_dns.missing()), reason=network_dns.missing() or "-")
FAR6 = "fd00:9::2"
KIND = "network.dns"


@pytest.fixture
def near():
    """A namespace whose resolver is beyond a cable, at 10.9.0.2 and fd00:9::2."""
    with pair() as (near, far):
        for process, device, address in ((near, "dev0", "fd00:9::1"), (far, "far", FAR6)):
            network.inside(process, "ip", "address", "add", f"{address}/64", "dev", device, "nodad")
        with dns_server.serving(far, FAR, FAR6):
            yield near


def told(message):
    """(code, addresses) of an answer."""
    asked = dns_message.question(message)
    return dns_message.code(message), dns_message.addresses(message, asked)


@pytest.mark.parametrize("resolver", [FAR, FAR6])
@pytest.mark.parametrize(
    ("mode", "code", "found"),
    [
        ({"mode": "nxdomain"}, dns_message.NXDOMAIN, []),
        ({"mode": "servfail"}, dns_message.SERVFAIL, []),
        ({"mode": "wrong", "addresses": ["192.0.2.9", "192.0.2.8", "2001:db8::9"]}, 0, ["192.0.2.8", "192.0.2.9"]),
    ],
)
async def test_an_answer_is_another_and_other_names_are_as_they_were(near, resolver, mode, code, found):
    assert told(resolve(near, resolver, "db.test")) == (0, ["10.1.1.1"])
    async with held(KIND, near, names=["DB.test."], resolver=resolver, **mode) as (_, _, receipt):
        assert receipt.confirmed, receipt.text
        assert told(resolve(near, resolver, "dB.TeSt")) == (code, found)
        assert told(resolve(near, resolver, "web.test")) == (0, ["10.1.1.2"])
    assert told(resolve(near, resolver, "db.test")) == (0, ["10.1.1.1"])


async def test_wrong_answers_are_of_the_family_that_was_asked_for_and_other_questions_pass(near):
    addresses = ["2001:db8::9", "192.0.2.9"]
    async with held(KIND, near, mode="wrong", names=["db.test"], addresses=addresses, resolver=FAR) as (_, _, receipt):
        assert receipt.confirmed, receipt.text
        assert told(resolve(near, FAR, "db.test", dns_message.AAAA)) == (0, ["2001:db8::9"])
        assert b"\x04mail" in resolve(near, FAR, "db.test", kind=15)  # MX is no address
    async with held(KIND, near, mode="wrong", names=["db.test"], addresses=addresses[:1], resolver=FAR) as (_, _, seen):
        assert seen.confirmed, seen.text
        assert told(resolve(near, FAR, "db.test")) == (0, []), "a family without a wrong address has none"


async def test_slow_answers_are_whole_and_late(near):
    async with held(KIND, near, mode="slow", names=["db.test"], delay_ms=120, resolver=FAR) as (_, _, receipt):
        assert receipt.confirmed, receipt.text
        begun = time.monotonic()
        assert told(resolve(near, FAR, "db.test")) == (0, ["10.1.1.1"])
        assert 0.12 <= time.monotonic() - begun < 0.25
        begun = time.monotonic()
        assert resolve(near, FAR, "web.test")
        assert time.monotonic() - begun < 0.1


async def test_no_answer_at_all(near):
    async with held(KIND, near, mode="timeout", names=["db.test"], resolver=FAR) as (_, _, receipt):
        assert receipt.confirmed, receipt.text
        assert resolve(near, FAR, "db.test", wait_s=0.3) == b""
        assert resolve(near, FAR, "web.test")


async def test_zones_and_all_names(near):
    async with held(KIND, near, mode="servfail", names=["*.zone.test"], resolver=FAR) as (_, effect, receipt):
        assert receipt.confirmed, receipt.text
        assert effect.facts["ask"] == "blackstart-probe.zone.test"
        assert told(resolve(near, FAR, "deep.zone.test"))[0] == dns_message.SERVFAIL
        assert told(resolve(near, FAR, "db.test"))[0] == 0
    async with held(KIND, near, mode="nxdomain", ask="db.test", resolver=FAR) as (_, _, receipt):
        assert receipt.confirmed, receipt.text
        assert told(resolve(near, FAR, "web.test"))[0] == dns_message.NXDOMAIN


async def test_only_the_resolvers_that_are_named_are_met(near):
    async with held(KIND, near, mode="nxdomain", names=["db.test"], peers=[FAR6]) as (_, effect, receipt):
        assert effect.facts["resolver"] == FAR6
        assert receipt.confirmed, receipt.text
        assert told(resolve(near, FAR6, "db.test"))[0] == dns_message.NXDOMAIN
        assert told(resolve(near, FAR, "db.test"))[0] == 0


async def test_a_program_that_knows_nothing_of_us_fails_to_resolve(near, tmp_path):
    """The C library itself, by a resolv.conf of its own."""
    (tmp_path / "resolv.conf").write_text(f"nameserver {FAR}\noptions timeout:1 attempts:1\n")
    script = f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && getent ahostsv4 db.test"
    command = ["nsenter", f"--net=/proc/{near.pid}/ns/net", "unshare", "--mount", "sh", "-c", script]

    def asked():
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "10.1.1.1" in asked().stdout
    async with held(KIND, near, mode="nxdomain", names=["db.test"], resolver=FAR):
        assert asked().returncode == 2
    assert "10.1.1.1" in asked().stdout


async def test_other_datagrams_do_not_come_by(near):
    """The queue is asked for answers of port 53 only."""
    async with held(KIND, near, mode="timeout", names=["db.test"], resolver=FAR) as (_, effect, _):
        met, _ = table_look.counters(effect.facts["network"], effect.facts["table"])
        with dns_server.inside(near, socket.AF_INET) as one, dns_server.inside(near, socket.AF_INET) as other:
            one.bind((NEAR, 5053))
            other.sendto(b"x", (NEAR, 5053))
            one.settimeout(1)
            assert one.recv(8) == b"x"
        assert table_look.counters(effect.facts["network"], effect.facts["table"])[0] == met


async def test_a_resolver_that_does_not_answer_proves_nothing(near):
    async with held(KIND, near, mode="timeout", names=["db.test"], resolver="10.9.0.77") as (_, _, receipt):
        assert not receipt.confirmed


async def test_a_rule_without_effect_is_not_confirmed(near):
    fault, effect = planned(KIND, near, mode="servfail", names=["web.test"], ask="web.test", resolver=FAR)
    effect.facts["names"] = ["db.test"]  # the holder acts on another name than the receipt asks for
    fault.prepare(effect)
    receipt = await fault.observe(effect, await fault.inject(effect))
    await fault.revert(effect)
    assert not receipt.confirmed


async def test_two_faults_on_the_same_answers_are_refused(near):
    async with held(KIND, near, mode="timeout", names=["db.test"], resolver=FAR) as (fault, _, _):
        _, second = planned(KIND, near, mode="servfail", names=["web.test"], resolver=FAR)
        with pytest.raises(RefusedError, match="held already"):
            fault.prepare(second)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"mode": "wrong"}, r"spec\.addresses: wrong needs some"),
        ({"mode": "servfail", "addresses": ["10.0.0.1"]}, r"spec\.addresses: servfail takes none"),
        ({"mode": "wrong", "addresses": ["ten"]}, r"spec\.addresses\[0\]: 'ten' is not an IP address"),
        ({"mode": "slow"}, r"spec\.delay_ms: slow needs one"),
        ({"mode": "timeout", "delay_ms": 3}, r"spec\.delay_ms: timeout takes none"),
        ({"mode": "nxdomain", "names": ["*.zone.test"]}, r"spec\.ask: is empty"),
        ({"mode": "nxdomain", "names": ["a.test"], "ask": "b.test"}, r"spec\.ask: b\.test is none of the names"),
        ({"mode": "servfail", "resolver": "dns.test"}, r"spec\.resolver: 'dns\.test' is not an IP address"),
        ({"mode": "servfail", "names": ["a..b"]}, "names"),
        ({"mode": "servfail", "names": ["*x.test"]}, "names"),
    ],
)
def test_what_makes_no_sense_is_refused(near, spec, said):
    with pytest.raises(SpecError, match=said):
        planned(KIND, near, **({"resolver": FAR} | spec))
