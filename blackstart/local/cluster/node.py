"""Nodes of the test cluster that KWOK plays: they have no kubelet, and their pods run nothing.

Whatever a figure owes to such nodes says so by this word: played.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from blackstart.local.cluster.plane import FAKE
from protos.error import BlackstartError

LABEL: Final = "blackstart.dev/played"
_CAPACITY: Final = {"cpu": "32", "memory": "256Gi", "pods": "110"}  # Kubernetes' own limit of pods a node
_CREATE_S: Final = 300.0


def fake_node(number: int, gpus: int = 0) -> dict[str, Any]:
    """A node object for KWOK, with *gpus* of NVIDIA's extended resource."""
    name = f"played-{number}"
    capacity = _CAPACITY | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": dict([FAKE.split("=")]),
            "labels": {LABEL: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": "kwok"},
        },
        "spec": {"taints": [{"key": LABEL, "value": "true", "effect": "NoSchedule"}]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }  # fmt: skip


def fake_nodes(kubectl: Path, kubeconfig: Path, count: int, gpus: int = 0) -> None:
    """Creates *count* of them; BlackstartError in kubectl's words."""
    items = [fake_node(number, gpus) for number in range(count)]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    done = subprocess.run(
        [str(kubectl), f"--kubeconfig={kubeconfig}", "create", "-f", "-"],
        input=document, capture_output=True, text=True, check=False, timeout=_CREATE_S,
    )  # fmt: skip
    if done.returncode:
        raise BlackstartError(f"nodes could not be created: {done.stderr.strip()}")
