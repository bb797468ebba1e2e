"""Whatever a protected thing is called, the policy knows it: addresses, paths, processes; and any text is judged."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent import policy, shelter
from agent.faults.base import Effect, Touched, Undo
from agent.policy import Policy
from agent.system import proc
from protos.error import RefusedError, SpecError

quick = settings(max_examples=150, deadline=None, derandomize=True)
v4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
v6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)


def effect(**touched: object) -> Effect:
    touches = msgspec.convert(touched, Touched)
    return Effect(fault="any", resource="r", description="d", undo=Undo.KERNEL, facts={}, touches=touches)


def refused(rules: Policy, **touched: object) -> bool:
    try:
        rules.check(effect(**touched), 1.0, [])
    except RefusedError:
        return True
    return False


@quick
@given(v4, st.integers(0, 32), st.sampled_from(["{net}", "::ffff:{net6}", "64:ff9b::{net6}"]))
def test_every_network_that_holds_a_protected_address_is_refused(
    kept: ipaddress.IPv4Address, bits: int, form: str
) -> None:
    network = ipaddress.ip_network((int(kept), bits), strict=False)
    low = network.network_address
    text = str(network) if form == "{net}" else form.replace("{net6}", f"{low}/{bits + 96}")
    assert refused(Policy(faults=["*"], protected_addresses=[str(kept)]), addresses=[text])
    assert refused(Policy(faults=["*"], protected_addresses=[f"::ffff:{kept}"]), addresses=[str(network)])
    assert refused(Policy(faults=["*"], protected_addresses=[str(network)]), addresses=[str(kept)])


@quick
@given(v6, st.integers(0, 128))
def test_so_is_every_ipv6_network_and_what_neighbour_discovery_needs(kept: ipaddress.IPv6Address, bits: int) -> None:
    network = ipaddress.IPv6Network((int(kept), bits), strict=False)
    rules = Policy(faults=["*"], protected_addresses=[str(kept)])
    if kept.ipv4_mapped is None:  # else it is an IPv4 address, which no IPv6 packet carries
        assert refused(rules, addresses=[str(network)])
        assert refused(rules, addresses=["fe80::1"]) or kept.is_loopback


@quick
@given(v4, v4, st.integers(1, 32))
def test_other_networks_are_not(kept: ipaddress.IPv4Address, other: ipaddress.IPv4Address, bits: int) -> None:
    network = ipaddress.ip_network((int(other), bits), strict=False)
    nobody = network.num_addresses == 1 and network.network_address.is_unspecified
    wanted = nobody or kept in network or (kept.is_loopback and ipaddress.IPv4Address("127.0.0.1") in network)
    assert refused(Policy(faults=["*"], protected_addresses=[str(kept)]), addresses=[str(network)]) == wanted


@quick
@given(st.text(max_size=40))
def test_an_address_that_is_none_is_refused(text: str) -> None:
    if not shelter.is_network(text):
        assert refused(Policy(faults=["*"], protected_addresses=["10.0.0.9"]), addresses=[text])


STEPS = ("", ".", "..", "a", "b", "kept", "kept/in", "link", "up", "missing", "x\0y")


@quick
@given(st.lists(st.sampled_from(STEPS), max_size=6), st.booleans(), st.booleans())
@example(["link"], False, False)
@example(["a", "..", "kept"], True, True)
def test_a_protected_directory_is_known_by_every_path_to_it(steps: list[str], relative: bool, doubled: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        (root / "kept" / "in").mkdir(parents=True)
        (root / "a" / "b").mkdir(parents=True)
        (root / "link").symlink_to(root / "kept")
        (root / "up").symlink_to("..")
        asked = "/".join([str(root), *steps])
        asked = os.path.relpath(asked.replace("\0", "")) if relative else asked
        asked = f"/{asked}" if doubled and not relative else asked
        rules = Policy(faults=["*"], protected_paths=[str(root / "kept")])
        real = Path(os.path.realpath(asked.replace("\0", "")))
        touches_it = real == root / "kept" or real in (root / "kept").parents or (root / "kept") in real.parents
        assert refused(rules, paths=[asked]) == (touches_it or "\0" in asked)
        if real == root / "kept" and "\0" not in asked:
            assert refused(Policy(faults=["*"], protected_mounts=[str(root / "kept")]), mounts=[asked])


def test_a_bind_mount_is_the_directory_that_it_shows(needs_root: None, tmp_path: Path) -> None:
    (tmp_path / "kept" / "in").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    script = f"""
from agent.policy import Policy
from tests.property.test_hostile_names import refused
rules = Policy(faults=["*"], protected_paths=[{str(tmp_path / "kept")!r}])
print([refused(rules, paths=[f"{tmp_path}/other" + rest]) for rest in ("", "/in", "/in/deeper")])
"""
    bind = f"mount --bind {tmp_path}/kept {tmp_path}/other && exec {sys.executable} -"
    command = ["unshare", "--mount", "sh", "-c", bind]
    ran = subprocess.run(
        command, input=script, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert ran.stdout.strip() == "[True, True, True]"


def test_a_process_is_known_by_its_threads_and_the_agents_own_by_their_command_lines() -> None:
    rules = Policy(faults=["*"], protected_processes=[])
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    own = [identity for tid in proc.threads(os.getpid()) if (identity := proc.identify(tid))]
    assert len(own) > 1
    assert all(refused(rules, processes=[msgspec.to_builtins(one)]) for one in own)
    ended.set()
    thread.join()
    for module in ("agent.guardian", "agent.faults.hold", "agent.renewal"):
        source = "import time; print(flush=True); time.sleep(60)"
        command = [sys.executable, "-c", source, "-m", module, "x"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            assert refused(rules, processes=[msgspec.to_builtins(proc.identify(child.pid))])
            child.kill()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6,
)  # fmt: skip
documents = st.dictionaries(st.sampled_from(Policy.__struct_fields__), values, max_size=4)


def outcome(read: Callable[[], Policy]) -> Policy | None:
    """A policy, or None for an error that says where."""
    try:
        rules = read()
    except SpecError as error:
        said = str(error)
    else:
        return rules
    assert "policy.yaml: not a policy" in said
    return None


@quick
@given(st.text(max_size=60) | documents.map(yaml.safe_dump) | st.sampled_from(["2020-99-99", "[" * 3000, "&a [*a]"]))
@example("longest_s: .nan")
@example("effects_max: -1")
@example("? {a: 1}\n: b")
def test_any_text_is_a_policy_or_an_error_in_words(text: str) -> None:
    rules = outcome(lambda: policy.parse(text, "policy.yaml"))
    if rules is None:
        return
    assert 0 < rules.longest_s <= policy.LONGEST_S_MAX
    rules.faults = ["*"]
    for duration_s in (float("nan"), float("inf"), -1.0):
        with pytest.raises(RefusedError):
            rules.check(effect(), duration_s, [])


@quick
@given(st.binary(max_size=60))
def test_any_bytes_are_a_policy_file_or_an_error_in_words(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policy.yaml")
        path.write_bytes(content)
        outcome(lambda: policy.load(path))
