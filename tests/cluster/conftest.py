"""The real control plane, started once for all of these tests, where it has been built."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.system.kube import SESSION
from blackstart.local.cluster import build
from blackstart.local.cluster.plane import Plane
from tests.chaos.kube_eye import CLUSTER, Eye
from tests.chaos.subject.kube import stage


class Kubectl:
    """kubectl, as a user whom the plane knows."""

    def __init__(self, program: Path, kubeconfig: Path) -> None:
        self._command = [str(program), f"--kubeconfig={kubeconfig}"]

    def try_(self, *arguments: str, document: Any = None) -> subprocess.CompletedProcess[str]:
        content = None if document is None else json.dumps(document)
        return subprocess.run(
            [*self._command, *arguments], input=content, capture_output=True, text=True, check=False, timeout=60
        )

    def __call__(self, *arguments: str, document: Any = None) -> str:
        done = self.try_(*arguments, document=document)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json"))


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    if told := build.missing():
        pytest.skip(told)
    return build.programs()


@pytest.fixture(scope="module")  # no longer: it would take processor time from measurements elsewhere
def plane(programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with Plane(programs, tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def kubectl(programs: dict[str, Path], plane: Plane) -> Kubectl:
    return Kubectl(programs["kubectl"], plane.admin)


@pytest.fixture
def faulted(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plane is the cluster of the faults and of the eyes that watch them; what they start is marked as ours."""
    monkeypatch.setenv("BLACKSTART_TEST", str(os.getpid()))
    monkeypatch.setenv(CLUSTER, str(plane.admin))
    monkeypatch.setenv("KUBECONFIG", str(plane.admin))
    yield
    SESSION.close()


@pytest.fixture
def staged(faulted: None) -> Iterator[tuple[Eye, str, str]]:
    """An eye on the plane, a namespace, a node."""
    del faulted
    with stage() as made:
        yield made
