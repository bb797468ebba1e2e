"""A test's own eyes and hands in a test cluster: plain HTTPS with its administrator's certificate.

It shares no code with the faults that it watches. The cluster is a test's own control plane with played nodes;
`BLACKSTART_TEST_CLUSTER` names its kubeconfig (tests/cluster sets it; so can whoever runs a campaign).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from blackstart.local.cluster.node import LABEL
from blackstart.local.cluster.plane import FAKE

CLUSTER = "BLACKSTART_TEST_CLUSTER"
READY_S = 30.0
Json = dict[str, Any]


def missing() -> str:
    """Why there is no cluster here; starts none."""
    return "" if os.environ.get(CLUSTER) else f"no test cluster: tests/cluster starts one, or set {CLUSTER}"


class Eye:
    """One connection, kept."""

    def __init__(self) -> None:
        settings = json.loads(Path(os.environ[CLUSTER]).read_text(encoding="utf-8"))
        cluster, user = settings["clusters"][0]["cluster"], settings["users"][0]["user"]
        context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        context.load_cert_chain(user["client-certificate"], user["client-key"])
        self._connection = http.client.HTTPSConnection(urlsplit(cluster["server"]).netloc, context=context, timeout=10)

    def close(self) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: Json | None = None, content: str = "application/json") -> Any:
        """The answer's object; LookupError for one that is not there, AssertionError for any other refusal."""
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, {"Content-Type": content})
        answer = self._connection.getresponse()
        document = json.loads(answer.read())
        if answer.status == 404:
            raise LookupError(path)
        assert answer.status < 300, document
        return document

    def get(self, path: str) -> Json:
        """An object; empty when there is none."""
        try:
            return self.ask("GET", path)
        except LookupError:
            return {}

    def items(self, path: str) -> list[Json]:
        return self.ask("GET", path)["items"]

    def delete(self, path: str) -> None:
        with contextlib.suppress(LookupError):
            self.ask("DELETE", path, {"gracePeriodSeconds": 0})

    def patch(self, path: str, body: Json) -> Json:
        return self.ask("PATCH", path, body, "application/merge-patch+json")

    def until(self, check: Any, what: str, timeout_s: float = READY_S) -> Any:
        """What *check* returns once it is true."""
        end = time.monotonic() + timeout_s
        while not (found := check()):
            assert time.monotonic() < end, what
            time.sleep(0.02)
        return found


@contextlib.contextmanager
def eye() -> Iterator[Eye]:
    """An eye; the agents that are started inside find the cluster by KUBECONFIG."""
    made, before = Eye(), os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = os.environ[CLUSTER]
    try:
        yield made
    finally:
        made.close()
        if before is None:
            del os.environ["KUBECONFIG"]
        else:
            os.environ["KUBECONFIG"] = before


@contextlib.contextmanager
def namespace(one: Eye) -> Iterator[str]:
    """A namespace of its own, whose service account is there; its pods and deployments are deleted at the end."""
    name = f"test-{secrets.token_hex(4)}"
    one.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    one.until(lambda: one.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"), "a service account")
    try:
        yield name
    finally:
        one.delete(f"/api/v1/namespaces/{name}")


@contextlib.contextmanager
def node(one: Eye) -> Iterator[str]:
    """A played node on which only what asks for it by name runs."""
    name = f"test-{secrets.token_hex(4)}"
    capacity = {"cpu": "32", "memory": "256Gi", "pods": "110"}
    one.ask("POST", "/api/v1/nodes", {
        "metadata": {"name": name, "annotations": dict([FAKE.split("=")]),
                     "labels": {LABEL: "true", "kubernetes.io/hostname": name}},
        "status": {"capacity": capacity, "allocatable": capacity},
    })  # fmt: skip
    one.until(lambda: _is_ready(one.get(f"/api/v1/nodes/{name}")), "the node is ready and untainted")
    try:
        yield name
    finally:
        one.delete(f"/api/v1/nodes/{name}")


def _is_ready(found: Json) -> bool:
    conditions = found.get("status", {}).get("conditions") or []
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not found["spec"].get("taints")


def deployment(one: Eye, space: str, host: str, replicas: int = 2, name: str = "web") -> str:
    """A deployment whose pods run on *host*; returns its path when they do."""
    labels = {"app": name}
    pod = {
        "containers": [{"name": "main", "image": "nothing.invalid/none:1"}],
        "nodeSelector": {"kubernetes.io/hostname": host}, "terminationGracePeriodSeconds": 0,
    }  # fmt: skip
    one.ask("POST", f"/apis/apps/v1/namespaces/{space}/deployments", {
        "metadata": {"name": name}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    })  # fmt: skip
    one.until(lambda: len(running(one, space, name)) == replicas, "its pods run")
    return f"/apis/apps/v1/namespaces/{space}/deployments/{name}"


def running(one: Eye, space: str, name: str = "web") -> list[Json]:
    """Pods of a deployment that run and are not ending."""
    found = one.items(f"/api/v1/namespaces/{space}/pods?labelSelector=app%3D{name}")
    return [
        pod for pod in found if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]


def marks(found: Json) -> list[str]:
    """What on an object says that it is Blackstart's."""
    about = found.get("metadata", {})
    return sorted(
        key for key in {**about.get("annotations", {}), **about.get("labels", {})} if "blackstart.dev/e" in key
    )
