"""Shapes of a partition on five real hosts: who hears whom is asked of the hosts themselves, by datagrams."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from blackstart.client import Client
from blackstart.local.stack import Stack
from protos.error import SpecError
from tests.integration.test_spine import driving

HOSTS = ("a", "b", "c", "d", "e")
EAR = """
import json, socket, sys, time
name, peers = sys.argv[1], sys.argv[2:]
ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ear.bind(("0.0.0.0", 5005))
print("ready", flush=True)
sys.stdin.readline()
heard, until = set(), time.monotonic() + 0.6
ear.settimeout(0.05)
while (now := time.monotonic()) < until:
    for peer in peers:
        try:
            ear.sendto(name.encode(), (peer, 5005))
        except OSError:
            pass
    try:
        while True:
            heard.add(ear.recv(64).decode())
    except TimeoutError:
        pass
print(json.dumps(sorted(heard)), flush=True)
"""


def hears(bed):
    """By host, whom it hears."""
    ears = {}
    for name, host in bed.hosts.items():
        peers = [other.address for other in bed.hosts.values() if other is not host]
        pipe = subprocess.PIPE
        ears[name] = host.spawn([sys.executable, "-c", EAR, name, *peers], stdin=pipe, stdout=pipe)
    for ear in ears.values():
        assert ear.stdout.readline() == b"ready\n"
    for ear in ears.values():
        ear.stdin.write(b"go\n")
        ear.stdin.flush()
    found = {name: "".join(json.loads(ear.communicate(timeout=10)[0])) for name, ear in ears.items()}
    assert all(ear.returncode == 0 for ear in ears.values())
    return found


@pytest.fixture
def fleet(tmp_path, testbed_factory, monkeypatch):
    monkeypatch.setenv("BLACKSTART_CONTROLLER_BUDGET__TARGETS_FRACTION", "0.8")  # `complete` takes four of five
    bed = testbed_factory(HOSTS)
    with Stack(tmp_path / "state") as stack:
        stack.controller("10.77.0.254:7443")
        for name in HOSTS:
            stack.agent(name, {"host": name, "role": "primary" if name in "ab" else "replica"}, bed.hosts[name])
        stack.await_agents(len(HOSTS))
        yield bed, stack


def cut(client, run_id, targets=None, **spec):
    arguments = {"fault": "network.partition", "targets": targets or {"labels": {}}, "spec": spec, "name": "cut"}
    return client.invoke(run_id, "inject", arguments | {"duration_s": 60, "on_lost_controller": "hold"})


def close(client, run_id):
    client.close_run(run_id, {"status": "completed", "deviated": False, "steady_states": {}, "run": []})


EVERYBODY = {"a": "bcde", "b": "acde", "c": "abde", "d": "abce", "e": "abcd"}
APART = {"labels": {"role": "primary"}}


CASES = [
    ({"shape": "halves"}, {"a": "b", "b": "a", "c": "de", "d": "ce", "e": "cd"}, "ab"),
    ({"shape": "halves", "direction": "in"}, EVERYBODY | {"a": "b", "b": "a"}, "ab"),
    ({"shape": "halves", "direction": "out"}, EVERYBODY | {"c": "de", "d": "ce", "e": "cd"}, "ab"),
    ({"shape": "isolate", "apart": APART}, {"a": "b", "b": "a", "c": "de", "d": "ce", "e": "cd"}, "ab"),
    ({"shape": "primaries", "apart": APART}, {"a": "", "b": "", "c": "de", "d": "ce", "e": "cd"}, "ab"),
    (
        {"shape": "bridge", "apart": {"labels": {"host": "c"}}},
        {"a": "bc", "b": "ac", "c": "abde", "d": "ce", "e": "cd"}, "ab",
    ),
    ({"shape": "complete"}, dict.fromkeys(HOSTS, ""), "abcd"),
]  # fmt: skip


def test_who_hears_whom(fleet):
    bed, stack = fleet
    with Client(stack.settings) as client:
        for spec, heard, acting in CASES:
            with driving(client, "shapes") as run_id:
                answer = cut(client, run_id, **spec)
                assert answer["confirmed"], answer
                assert "".join(sorted(effect["agent_id"] for effect in answer["effects"])) == acting
                assert hears(bed) == heard, spec
                client.invoke(run_id, "revert", {})
                assert hears(bed) == EVERYBODY
                close(client, run_id)


def test_a_ring_in_which_each_sees_a_majority_and_no_two_the_same(fleet):
    bed, stack = fleet
    with Client(stack.settings) as client, driving(client, "ring") as run_id:
        assert cut(client, run_id, shape="majorities_ring")["confirmed"]
        seen = {name: frozenset(others) | {name} for name, others in hears(bed).items()}
        assert {len(one) for one in seen.values()} == {3}
        assert len(set(seen.values())) == len(HOSTS)
        close(client, run_id)
        assert hears(bed) == EVERYBODY


def test_the_dry_run_shows_the_peers_that_each_agent_gets(fleet):
    _, stack = fleet
    arguments = {"fault": "network.partition", "targets": {"labels": {}}, "spec": {"shape": "halves"}}
    provider = {"type": "python", "module": "blackstart.chaos", "func": "inject", "arguments": arguments}
    method = [{"type": "action", "name": "cut", "provider": provider}]
    with Client(stack.settings) as client:
        plan = client.plan({"version": "1.0.0", "title": "t", "description": "d", "method": method})
    (step,) = plan["steps"]
    assert not step["problem"]
    said = {effect["agent_id"]: effect["description"] for effect in step["effects"]}
    assert set(said) == {"a", "b"}
    assert all("10.77.0.3/32, 10.77.0.4/32, 10.77.0.5/32" in text for text in said.values())


def test_a_shape_for_too_few_is_an_error_that_says_so_and_injects_nothing(fleet):
    bed, stack = fleet
    with Client(stack.settings) as client, driving(client, "few") as run_id:
        with pytest.raises(SpecError, match="3 agents: a majorities ring needs 4 at least"):
            cut(client, run_id, targets={"labels": {"role": "replica"}}, shape="majorities_ring")
        assert hears(bed) == EVERYBODY
        close(client, run_id)
