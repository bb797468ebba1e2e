"""The node's policy: what no order can widen."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from agent import policy
from agent.faults.base import Effect, Touched, Undo
from agent.policy import Policy
from agent.system import proc
from protos.error import RefusedError, SpecError


def effect(kind: str = "process.kill", **touched: object) -> Effect:
    touches = msgspec.convert(touched, Touched)
    return Effect(fault=kind, resource="r", description="d", undo=Undo.KERNEL, facts={}, touches=touches)


def test_without_a_file_every_fault_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"does not opt in to process\.kill"):
        policy.load(None).check(effect(), 1, [])


def test_opt_in_is_by_kind_or_pattern() -> None:
    Policy(faults=["process.*"]).check(effect(), 1, [])
    with pytest.raises(RefusedError, match="it does to: network"):
        Policy(faults=["network.*"]).check(effect(), 1, [])


def test_the_longest_duration_is_the_nodes() -> None:
    with pytest.raises(RefusedError, match=r"61 s is longer .* \(60 s\)"):
        Policy(faults=["*"], longest_s=60).check(effect(), 61, [])


@pytest.mark.parametrize("pid", [1, os.getpid(), os.getppid()], ids=["init", "agent", "parent"])
def test_the_agent_and_all_above_it_are_safe(pid: int) -> None:
    target = proc.identify(pid)
    with pytest.raises(RefusedError, match="is protected"):
        Policy(faults=["*"], protected_processes=[]).check(effect(processes=[msgspec.to_builtins(target)]), 1, [])


def test_protected_names_are_safe() -> None:
    target = {"pid": 2**22 + 5, "start": 1, "name": "sshd"}
    with pytest.raises(RefusedError, match="sshd"):
        Policy(faults=["*"]).check(effect(processes=[target]), 1, [])


@pytest.mark.parametrize("peer", ["10.0.0.9", "10.0.0.0/24", "0.0.0.0/0"])
def test_the_controller_is_never_cut_off(peer: str) -> None:
    cut = effect("network.partition", addresses=[peer])
    with pytest.raises(RefusedError, match=r"cut off 10\.0\.0\.9, which is the controller's"):
        Policy(faults=["*"]).check(cut, 1, ["10.0.0.9", "::1"])
    Policy(faults=["*"], protect_controller=False).check(cut, 1, ["10.0.0.9"])


def test_protected_networks_are_safe() -> None:
    with pytest.raises(RefusedError, match="protected by the node's policy"):
        Policy(faults=["*"], protected_addresses=["10.1.0.0/16"]).check(effect(addresses=["10.1.2.3"]), 1, [])


@pytest.mark.parametrize(
    ("argv", "allowed"),
    [
        (["curl", "-s", "http://x"], True),
        (["curl"], True),
        (["true"], True),
        (["true", "x"], False),
        (["sh", "-c", "curl"], False),
        ([], False),
    ],
)
def test_commands_match_element_by_element(argv: list[str], *, allowed: bool) -> None:
    assert Policy(commands=[["curl", "*"], ["true"]]).allows_command(argv) is allowed


@pytest.mark.parametrize("text", ["faults: 3", "surprise: 1", "faults: [", "- a"])
def test_a_malformed_policy_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"policy\.yaml: not a policy"):
        policy.load(path)


def test_a_missing_policy_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read the policy"):
        policy.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", ["/", "/etc", "/etc/ssl", "/usr/lib", "/srv", "/srv/agent/state", "/srv/agent"])
def test_no_file_fault_stands_on_what_is_protected(path: str) -> None:
    with pytest.raises(RefusedError, match="is protected"):
        Policy(faults=["*"], own_paths=["/srv/agent/state"]).check(effect("file.io_error", paths=[path]), 1, [])
    Policy(faults=["*"], own_paths=["/srv/agent/state"]).check(effect("file.io_error", paths=["/srv/web"]), 1, [])


@pytest.mark.parametrize(
    ("touched", "said"),
    [
        ({"ports": [443, 22]}, "port 22 is protected"),
        ({"mounts": ["/data"]}, "/data is protected"),
        ({"containers": ["web", "blackstart-agent"]}, "container blackstart-agent is protected"),
    ],
)
def test_ports_mounts_and_containers_are_protected(touched: dict[str, object], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        Policy(faults=["*"], protected_mounts=["/data"]).check(effect("any", **touched), 1, [])


def test_a_pattern_of_a_directory_does_not_lead_out_of_it() -> None:
    policy = Policy(commands=[["/opt/probes/*", "*"], ["cat", "../notes"]])
    assert policy.allows_command(["/opt/probes/check", "x"])
    assert not policy.allows_command(["/opt/probes/../../bin/sh", "-c", "id"])
    assert policy.allows_command(["cat", "../notes"]), "written out by the owner"


def test_a_protected_mount_is_protected_where_a_part_of_it_is_bound(tmp_path: Path) -> None:
    part, other = tmp_path / "disk", Path("/dev/shm")
    part.mkdir()
    policy = Policy(faults=["*"], protected_mounts=[str(tmp_path)])
    with pytest.raises(RefusedError, match="protected by the node's policy"):
        policy.check(effect("resource.disk_fill", mounts=[str(part)]), 1, [])  # another name, the same disk
    if other.stat().st_dev != tmp_path.stat().st_dev:
        policy.check(effect("resource.disk_fill", mounts=[str(other)]), 1, [])


@pytest.mark.parametrize("space", ["kube-system", "kube-public", "kube-node-lease", "blackstart", "blackstart-two"])
def test_namespaces_of_the_cluster_itself_are_protected(space: str) -> None:
    kill = effect("pod.kill", namespaces=["shop", space])
    with pytest.raises(RefusedError, match=rf"namespace {space} is protected by the node's policy"):
        Policy(faults=["*"]).check(kill, 1, [])
    Policy(faults=["*"], protected_namespaces=[]).check(kill, 1, [])


def test_only_the_namespaces_that_are_named_may_be_touched() -> None:
    Policy(faults=["*"], namespaces=["shop-*"]).check(effect("pod.kill", namespaces=["shop-1"]), 1, [])
    with pytest.raises(RefusedError, match=r"namespace bank is not among those .* \(shop-\*\)"):
        Policy(faults=["*"], namespaces=["shop-*"]).check(effect("pod.kill", namespaces=["shop-1", "bank"]), 1, [])
    with pytest.raises(RefusedError, match=r"\(none\)"):
        Policy(faults=["*"], namespaces=[]).check(effect("pod.kill", namespaces=["shop"]), 1, [])


def test_only_the_nodes_that_are_named_may_be_touched() -> None:
    Policy(faults=["*"], nodes=["gpu-*"]).check(effect("node.cordon", nodes=["gpu-1"]), 1, [])
    with pytest.raises(RefusedError, match=r"node control-1 is not among those .* \(gpu-\*\)"):
        Policy(faults=["*"], nodes=["gpu-*"]).check(effect("node.cordon", nodes=["control-1"]), 1, [])


def test_budgets_are_respected_unless_the_owner_says_otherwise() -> None:
    kill = effect("pod.kill", budgets=["pod shop/web-1: Cannot evict pod"])
    with pytest.raises(RefusedError, match="respects PodDisruptionBudgets: pod shop/web-1: Cannot evict pod"):
        Policy(faults=["*"]).check(kill, 1, [])
    Policy(faults=["*"], respect_pdb=False).check(kill, 1, [])
