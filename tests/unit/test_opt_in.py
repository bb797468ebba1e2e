"""What no spec may choose: the code that runs in a cluster, where it runs, and names that only look like others."""

from __future__ import annotations

import os
import shutil
import subprocess

import msgspec
import pytest

from agent.faults import kube_pods, quota_exhaust, registry
from agent.faults.base import Effect, Undo
from agent.policy import Policy
from agent.system import proc
from agent.system.kube_wire import Answer
from agent.workloads.kube_ramp import Limits, RampWorkload
from protos.error import RefusedError
from tests.chaos.case import wait_until

FAULTS = registry.all_faults()
PLAYED = {"blackstart.dev/played": "true"}


def spec_of(kind, **spec):
    return msgspec.convert(spec, FAULTS[kind].spec)


@pytest.mark.parametrize("image", ["", "nothing.invalid/none", "a.b-c.invalid:5000/x/y:1", "x.invalid/y@sha256:0a"])
def test_a_bad_image_is_one_of_a_registry_that_resolves_nowhere(image):
    assert spec_of("rollout.bad_image", name="web", image=image).image == image


@pytest.mark.parametrize(
    "image",
    [
        "evil.example/miner:1", "miner", "invalid/miner", ".invalid/miner", "evil.example/x.invalid/miner", "x.invalid",
        "evil.example:443/x.invalid/y", "x.invalid.evil.example/y", "x.invalid/y\n", "x.invalid/y evil", "\n",
    ],
)  # fmt: skip
def test_no_other_image_is_taken(image):
    with pytest.raises(msgspec.ValidationError):
        spec_of("rollout.bad_image", name="web", image=image)


@pytest.mark.parametrize(
    ("limits", "spec", "told"),
    [
        ({}, {"image": "evil.example/miner:1"}, "does not allow ramps of image evil.example/miner:1"),
        ({"images": ["a.example/*"]}, {}, r"of image nothing.invalid/none \(it does of: a.example/\*\)"),
        ({}, {"node_selector": {}}, "may come to real nodes"),
        ({}, {"node_selector": {"pool": "gpu"}}, "may come to real nodes"),
        ({}, {"node_selector": {"blackstart.dev/played": "false"}}, "may come to real nodes"),
        ({"real_nodes": True, "nodes": ["gpu-*"]}, {"node_selector": {}}, r"names nodes \(gpu-\*\)"),
    ],
)
async def test_a_ramp_runs_what_and_where_the_nodes_policy_says(tmp_path, limits, spec, told):
    workload = RampWorkload(tmp_path, lambda: Limits(["scale-*"], 100, **limits), lambda *_: None)
    with pytest.raises(RefusedError, match=told):
        await workload.run("run-1", {"to": 10, **spec})


def test_the_policy_lets_ramps_play_and_no_more():
    policy = Policy()
    assert (policy.ramp_images, policy.ramp_real_nodes) == (["nothing.invalid/none"], False)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("pdb.block", {"namespace": "kube-system\n", "labels": {"a": "b"}}),
        ("pod.kill", {"name": "web\n"}),
        ("pod.kill", {"name": "\n"}),
        ("pod.kill", {"node": "\n", "name": "web"}),
        ("node.cordon", {"node": "n\n"}),
        ("node.cordon", {"node": "\n"}),
        ("node.taint", {"node": "n", "key": "a\n"}),
        ("node.taint", {"node": "n", "value": "a\n"}),
        ("gpu.xid_log", {"xid": 79, "pci": "0000\n"}),
    ],
)
def test_no_name_ends_in_a_newline(kind, spec):
    with pytest.raises(msgspec.ValidationError, match="regex"):
        spec_of(kind, **spec)


@pytest.fixture
def stand_in(tmp_path):
    """A process that is called like no kubelet and says that it is another node's, in a network of its own."""
    program = tmp_path / "mydb-xyz"
    shutil.copy2("/bin/sh", program)
    command = ["unshare", "--net", program, "-c", "read line", "x", "--hostname-override=Other"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def told_of(message, status=429, **details):
    return Answer(status, {"message": message, "details": details}, 0, 0)


def test_only_what_names_a_budget_is_a_budgets_refusal():
    cause = {"reason": "DisruptionBudget", "message": "The disruption budget web needs 2 healthy pods"}
    assert kube_pods.blocked(told_of("Cannot evict pod", causes=[cause]))
    assert not kube_pods.blocked(told_of("Too many requests, please try again later.", retryAfterSeconds=1))
    assert kube_pods.blocked(told_of("This pod has more than one PodDisruptionBudget, which …", 500))


@pytest.mark.parametrize(
    ("message", "confirmed"),
    [
        ('pods "b-1-more" is forbidden: exceeded quota: b-1, requested: pods=1', True),
        ('pods "b-1-more" is forbidden: exceeded quota: team-a, requested: pods=1', False),
        ('pods "b-1-more" is forbidden: exceeded quota: b-11, requested: pods=1', False),
        ('pods "b-1-more" is forbidden: violates PodSecurity "restricted:latest"', False),
    ],
)
def test_a_quota_is_confirmed_by_its_own_refusal(message, confirmed):
    assert bool(quota_exhaust._refusal(told_of(message, 403), {"object": "b-1"})) is confirmed


def test_only_what_the_policy_calls_a_kubelet_is_one():
    for kind in ("node.stop_kubelet", "node.partition"):
        effect = Effect(fault=kind, resource="r", description="d", undo=Undo.KERNEL, facts={})
        effect.touches.kubelets = ["mydb-xyz"]
        with pytest.raises(RefusedError, match="mydb-xyz is no kubelet by the node's policy"):
            Policy(faults=["*"]).check(effect, 1.0, [])
        Policy(faults=["*"], kubelets=["mydb-xyz"]).check(effect, 1.0, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a network namespace")
def test_a_process_is_no_kubelet_for_its_command_line(stand_in):
    wait_until(lambda: (proc.stat(stand_in.pid) or (None,))[0] == "mydb-xyz", 5.0)
    (effect,) = registry.plan(FAULTS, "node.stop_kubelet", {"program": "mydb-xyz"})
    assert effect.touches.nodes == ["other"], "in lower case, as the kubelet has it"
    with pytest.raises(RefusedError, match="is no kubelet"):
        Policy(faults=["*"], protected_processes=[]).check(effect, 1.0, [])
    with pytest.raises(RefusedError, match="is not in the network namespace of mydb-xyz"):
        FAULTS["node.partition"].plan(spec_of("node.partition", program="mydb-xyz"))
