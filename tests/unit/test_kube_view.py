"""What is read from objects of the API: which count, and what is told of a change. Without a server."""

from __future__ import annotations

import copy

import pytest

from agent.probes.kube_view import NOBODY, TRIGGERED, Deployment, Endpoints, Pods, State, view

THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:00:07Z"


def pod(name="a", *, ready=True, phase="Running", uid="1", deleting=False, restarts=0):
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": NOW}
    meta = {"name": name, "uid": uid, "creationTimestamp": THEN}
    if deleting:
        meta |= {"deletionTimestamp": NOW, "deletionGracePeriodSeconds": 30}
    running = {"restartCount": restarts, "state": {"running": {"startedAt": NOW}}}
    status = {"phase": phase, "startTime": THEN, "conditions": [condition], "containerStatuses": [running]}
    return {"metadata": meta, "status": status}


def marks(changes):
    return [(change.mark, change.api_time) for change in changes]


@pytest.mark.parametrize(
    ("document", "count"),
    [
        (pod(), 1), (pod(ready=False), 0), (pod(phase="Succeeded"), 0), (pod(deleting=True), 0),
        ({"metadata": {"name": "new"}}, 0),
    ],
)  # fmt: skip
def test_a_pod_counts_that_runs_is_ready_and_stays(document, count):
    pods = Pods("default", "app=web", 1)
    pods.take(document)
    assert pods.state() == State(bool(count), count, 1)


def test_what_a_pod_went_through_is_told_once_with_the_servers_stamps():
    pods = Pods("default", "app=web", 1)
    assert marks(pods.take(pod(ready=False))) == [("pod_created", THEN), ("pod_started", THEN)]
    assert marks(pods.take(pod())) == [("pod_ready", NOW)]
    assert pods.take(pod()) == []
    assert marks(pods.take(pod(ready=False))) == [("pod_unready", NOW)]
    assert marks(pods.take(pod(ready=False, restarts=1))) == [("pod_restarted", NOW)]
    assert marks(pods.take(pod(ready=False, restarts=2))) == [("pod_restarted", NOW)]
    (deleting,) = pods.take(pod(ready=False, restarts=2, deleting=True))
    assert (deleting.mark, deleting.text) == ("pod_deleting", f"grace 30 s; {NOW} by the API server")
    (gone,) = pods.take(pod(), deleted=True)
    assert (gone.mark, gone.path, gone.text) == ("pod_gone", "pods/a", "uid 1")


def test_another_pod_of_the_same_name_is_another():
    pods = Pods("default", "app=web", 1)
    pods.take(pod())
    changes = pods.take(pod(uid="2", ready=False))
    assert [change.mark for change in changes] == ["pod_gone", "pod_created", "pod_started"]


def test_a_list_tells_the_difference_and_forgets_what_is_gone():
    pods = Pods("default", "app=web", 2)
    pods.replace([pod("a"), pod("b", uid="2")])
    assert pods.state() == State(True, 2, 2)
    assert [(change.mark, change.path) for change in pods.replace([pod("b", uid="2", ready=False)])] == [
        ("pod_gone", "pods/a"), ("pod_unready", "pods/b"),
    ]  # fmt: skip
    assert pods.state() == State(False, 0, 2)


def piece(name, *endpoints):
    return {"metadata": {"name": name, "annotations": {TRIGGERED: NOW}}, "endpoints": list(endpoints)}


def end(address, uid="", ready=True):
    target = {"targetRef": {"name": f"pod-{uid}", "uid": uid}} if uid else {}
    return {"addresses": [address], "conditions": {"ready": ready}, **target}


def test_an_endpoint_counts_once_over_all_slices():
    service = Endpoints("default", "web", 2)
    first, second = end("10.0.0.1", "1"), end("10.0.0.2", "2", ready=False)
    service.replace([piece("v4", first, second), piece("v6", end("fd::1", "1"))])
    assert service.state() == State(False, 1, 2)
    changes = service.take(piece("v4", first, end("10.0.0.2", "2", ready=None)))
    assert marks(changes) == [("endpoint_ready", NOW)], "unknown counts as ready: so says the API"
    assert service.state() == State(True, 2, 2)
    assert marks(service.take(piece("v4", end("10.0.0.1", "1", ready=False)))) == [
        ("endpoint_unready", NOW), ("endpoint_gone", ""),
    ]  # fmt: skip
    assert service.state() == State(False, 1, 2), "by its other address it is ready"
    service.take({"metadata": {"name": "v6"}, "endpoints": None})
    assert service.state() == State(False, 0, 2)


def rollout(**status):
    settled = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "observedGeneration": 2}
    conditions = [{"type": "Progressing", "status": "True", "lastUpdateTime": NOW}]
    return {
        "metadata": {"name": "web", "uid": "1", "generation": 2, "creationTimestamp": THEN}, "spec": {"replicas": 3},
        "status": {**settled, "conditions": conditions, **status},
    }  # fmt: skip


def test_a_rollout_is_complete_once_all_of_it_is_new_and_available():
    deployment = Deployment("default", "web", 0)
    assert deployment.state() == State(False, 0, 0), "what is not there is not good"
    deployment.take(rollout())
    assert deployment.state() == State(True, 3, 3)
    for lacks in ({"replicas": 4}, {"updatedReplicas": 2}, {"availableReplicas": 2}, {"observedGeneration": 1}):
        assert marks(deployment.take(rollout(**lacks))) == [("rollout_incomplete", NOW)]
        assert not deployment.state().good
        assert marks(deployment.take(rollout())) == [("rollout_complete", NOW)]
    nothing = copy.deepcopy(rollout(replicas=0, updatedReplicas=0, availableReplicas=0))
    nothing["spec"]["replicas"] = 0
    deployment.take(nothing)
    assert deployment.state() == State(False, 0, 0), "none is never good"


def test_so_many_available_may_be_enough():
    deployment = Deployment("default", "web", 2)
    deployment.take(rollout(availableReplicas=2))
    assert deployment.state() == State(True, 2, 2)
    deployment.take(rollout(availableReplicas=1))
    assert deployment.state() == State(False, 1, 2)


@pytest.mark.parametrize(
    ("spec", "path", "picked", "asked"),
    [
        ({"selector": "app=web"}, "/api/v1/namespaces/n/pods", {"labelSelector": "app=web"}, NOBODY),
        ({"service": "web"}, "/apis/discovery.k8s.io/v1/namespaces/n/endpointslices",
         {"labelSelector": "kubernetes.io/service-name=web"}, NOBODY),
        ({"deployment": "web"}, "/apis/apps/v1/namespaces/n/deployments",
         {"fieldSelector": "metadata.name=web"}, "web"),
    ],
)  # fmt: skip
def test_where_it_looks(spec, path, picked, asked):
    made = view({"namespace": "n", **spec})
    assert (made.path, made.picked, made.asked) == (path, picked, {"fieldSelector": f"metadata.name={asked}"})
