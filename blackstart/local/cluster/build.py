"""The programs of the test cluster: those in KUBEBUILDER_ASSETS, and what is not there, built once from Go modules."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from blackstart.local.gobuild import Module

ROOT: Final = Path(__file__).parents[3] / "deploy" / "testcluster"
ASSETS: Final = "KUBEBUILDER_ASSETS"  # as envtest has it
_KUBERNETES: Final = (
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
)  # fmt: skip
_VERSION: Final = re.compile(r"^\s*(?:require )?k8s\.io/kubernetes (v(\d+)\.(\d+)\.\d+)", re.MULTILINE)


def modules() -> list[Module]:
    """What has to be built where KUBEBUILDER_ASSETS does not have it."""
    if not ROOT.is_dir():
        return []
    return [
        _module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}, {}),
        _module("kubernetes", {name: f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES}, _stamps()),
        _module("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}, {}),
    ]


def helm() -> Module:
    """Helm, for the tests of the chart: the cluster does without."""
    return _module("helm", {"helm": "helm.sh/helm/v3/cmd/helm"}, {})


def missing() -> str:
    """Empty where all programs are there, else what to do about it."""
    if not (known := modules()):
        return f"the test cluster is not at {ROOT}: it comes with the source tree"
    return next((told for module in known if not _given(module) and (told := module.missing())), "")


def programs() -> dict[str, Path]:
    """Where each program is, after it has been built where that was needed.

    Raises:
        BlackstartError: one cannot be built here.
    """
    found: dict[str, Path] = {}
    for module in modules():
        folder = _given(module) or module.build()
        found |= {name: folder / name for name in module.programs}
    return found


def _given(module: Module) -> Path | None:
    """KUBEBUILDER_ASSETS, where it has all of the module's programs."""
    folder = Path(os.environ.get(ASSETS, ""))
    there = bool(os.environ.get(ASSETS)) and all(os.access(folder / name, os.X_OK) for name in module.programs)
    return folder if there else None


def _module(name: str, packages: dict[str, str], stamps: dict[str, str]) -> Module:
    return Module(ROOT / name, packages, "testcluster", "run `blackstart testcluster build`", stamps, cgo=False)


def _stamps() -> dict[str, str]:
    """What tells Kubernetes its own version, which it compares with its peers'."""
    found = _VERSION.search((ROOT / "kubernetes" / "go.mod").read_text(encoding="utf-8"))
    assert found is not None
    version, major, minor = found.groups()
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{name}": value for package in packages for name, value in values.items()}
