"""A real election: two schedulers (client-go's leader election) campaign for a lease of the tests' own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import kube_eye
from tests.chaos.kube_eye import Eye
from tests.cluster.fault_rig import in_force

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("faulted")]


@contextlib.contextmanager
def candidate(programs: dict[str, Path], plane: Any, space: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler that schedules for a name that no pod asks for, once it leads."""
    folder.mkdir()
    config = folder / "config.yaml"
    config.write_text(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"
        f"clientConnection: {{kubeconfig: {plane.admin}}}\n"
        "profiles: [{schedulerName: nobody}]\n"
        f"leaderElection: {{leaderElect: true, resourceNamespace: {space}, resourceName: leader, "
        "leaseDuration: 4s, renewDeadline: 2s, retryPeriod: 500ms}\n"
    )
    command = [str(programs["kube-scheduler"]), f"--config={config}", "--secure-port=0"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as made:
        try:
            yield made
        finally:
            made.kill()


def holder(one: Eye, path: str) -> str:
    return one.get(path).get("spec", {}).get("holderIdentity") or ""


async def test_the_leader_loses_its_lease_and_nobody_leads_until_it_is_released(plane, programs, tmp_path):
    with kube_eye.eye() as one, kube_eye.namespace(one) as space, contextlib.ExitStack() as stack:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases/leader"
        both = [stack.enter_context(candidate(programs, plane, space, tmp_path / name)) for name in "ab"]
        leader = one.until(lambda: holder(one, path), "one leads")
        transitions = one.get(path)["spec"]["leaseTransitions"]
        fault, effect, receipt = await in_force("lease.steal", {"namespace": space, "name": "leader"})
        assert receipt.confirmed, receipt.text
        assert f"before: {leader}" in receipt.text
        one.until(lambda: sum(made.poll() is not None for made in both) == 1, "the leader has ended: it lost the lease")
        assert holder(one, path) == f"blackstart-{effect.id}"
        await fault.revert(effect)
        assert fault.residue(effect) == []
        new = one.until(lambda: holder(one, path), "the other one leads")
        assert new not in (leader, f"blackstart-{effect.id}")
        assert one.get(path)["spec"]["leaseTransitions"] > transitions + 1
        assert sum(made.poll() is None for made in both) == 1


async def test_a_lease_that_somebody_took_back_is_theirs(faulted):
    with kube_eye.eye() as one, kube_eye.namespace(one) as space:
        plural = f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases"
        one.ask("POST", plural, {"metadata": {"name": "leader"}, "spec": {"leaseDurationSeconds": 2}})
        fault, effect, _ = await in_force("lease.steal", {"namespace": space, "name": "leader"})
        one.patch(f"{plural}/leader", {"spec": {"holderIdentity": f"theirs-{os.getpid()}"}})
        await fault.revert(effect)
        assert fault.residue(effect) == []
        assert holder(one, f"{plural}/leader") == f"theirs-{os.getpid()}"
