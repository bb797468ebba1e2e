"""`network.reset` on real connections: both ends learn of it, nobody else's connection is touched."""

from __future__ import annotations

import contextlib
import socket
import subprocess

import pytest

from agent.faults import network_reset, registry
from agent.faults.base import Touched
from agent.system import sock_diag
from protos.error import FaultError, SpecError
from tests.chaos.case import end
from tests.chaos.subject import network_reset as subject

pytestmark = pytest.mark.skipif(bool(subject.missing()), reason=subject.missing() or "-")
FAULTS = registry.all_faults()


@contextlib.contextmanager
def connection(address: str = "127.0.0.1", dual: bool = False):
    """(client, server, port), of this process. *dual*: the server takes IPv4 by an IPv6 socket."""
    family = socket.AF_INET6 if dual or ":" in address else socket.AF_INET
    with socket.create_server(("" if dual else address, 0), family=family, dualstack_ipv6=dual) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((address, port)) as client:
            server, _ = listener.accept()
            client.settimeout(2)
            server.settimeout(2)
            with server:
                yield client, server, port


@pytest.fixture(autouse=True)
def _a_stranger(monkeypatch):
    """The connections of this test belong to the agent's own process, which are spared: let it hold none."""
    monkeypatch.setattr(network_reset, "_own", lambda _facts: set())


def alive(*ends):
    for one, other in (ends, ends[::-1]):
        one.sendall(b"x")
        assert other.recv(1) == b"x"


async def reset(**spec):
    (effect,) = registry.plan(FAULTS, "network.reset", spec)
    fault = FAULTS["network.reset"]
    injected = await fault.inject(effect)
    return effect, await fault.observe(effect, injected)


@pytest.mark.parametrize(("address", "dual"), [("127.0.0.1", False), ("::1", False), ("127.0.0.1", True)])
async def test_both_ends_fail_and_an_unrelated_connection_lives(address, dual):
    with connection(address, dual) as (client, server, port), connection(address) as (other, its_server, _):
        effect, receipt = await reset(ports=[port], peers=[address])
        assert receipt.confirmed, receipt.text
        assert f"{port}" in effect.description
        for end in (client, server):
            with pytest.raises((ConnectionResetError, ConnectionAbortedError)):
                end.recv(1)
        alive(other, its_server)


def held_by_another(connection):
    return subprocess.Popen(["sleep", "60"], pass_fds=[connection.fileno()])


async def test_one_end_is_aborted_and_the_peer_sees_the_reset():
    """By the owner: a connection whose two ends two processes hold."""
    with connection() as (client, server, port):
        holder = held_by_another(client)
        client.close()
        try:
            _, receipt = await reset(owner={"pid": holder.pid}, ports=[port])
            assert receipt.confirmed, receipt.text
            assert "1 end of connections aborted" in receipt.text
            with pytest.raises(ConnectionResetError):
                server.recv(1)
        finally:
            end(holder)


async def test_the_agents_own_connections_are_spared_at_both_ends(monkeypatch):
    monkeypatch.undo()
    with connection() as (client, server, port):
        with pytest.raises(SpecError, match="no established connection fits"):
            await reset(ports=[port])
        alive(client, server)


async def test_protected_ports_are_spared():
    with connection() as (client, server, port):
        (effect,) = registry.plan(FAULTS, "network.reset", {"ports": [port]})
        effect.facts["spared_ports"] = [port]
        aborted = network_reset._matching(effect.facts)
        assert [one.local_port for one in aborted] == [client.getsockname()[1]]
        alive(client, server)


async def test_what_the_policy_must_judge_is_who_is_connected():
    with connection() as (_, _, port):
        (effect,) = registry.plan(FAULTS, "network.reset", {"ports": [port]})
        assert effect.touches == Touched(addresses=["127.0.0.1"], ports=[port])


async def test_a_later_connection_with_the_same_addresses_is_not_hit():
    with connection() as (_, _, port):
        victims = [one for one in sock_diag.connections("") if port in (one.local_port, one.remote_port)]
    others = [one for one in victims if one.local_port != port]
    with socket.create_server(("127.0.0.1", port), reuse_port=False) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("127.0.0.1", others[0].local_port))
        client.connect(("127.0.0.1", port))
        server, _ = listener.accept()
        with server:
            client.settimeout(2)
            server.settimeout(2)
            assert sock_diag.destroy("", victims) == []
            alive(client, server)


async def test_none_left_at_the_injection_is_a_failure():
    with connection() as (_, _, port):
        (effect,) = registry.plan(FAULTS, "network.reset", {"ports": [port]})
    with pytest.raises(FaultError, match="ended by themselves"):
        await FAULTS["network.reset"].inject(effect)


async def test_without_an_abort_nothing_is_confirmed(monkeypatch):
    with connection() as (_, _, port):
        monkeypatch.setattr(network_reset.sock_diag, "destroy", lambda _network, victims: list(victims))
        _, receipt = await reset(ports=[port])
        assert not receipt.confirmed
        assert "lists 2 of them" in receipt.text
