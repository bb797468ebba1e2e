"""The namespace of a ramp: one that was there, one that others use too, one that does not end."""

from __future__ import annotations

import asyncio
import json

import pytest

from protos.error import ProbeError
from tests.cluster.test_ramp import SPACE, begun, rig_of

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def rig(plane, programs, tmp_path, monkeypatch):
    return rig_of(plane, programs, tmp_path / "ramps", monkeypatch)


def test_a_namespace_that_was_there_stays_with_what_is_in_it(rig):
    rig.kubectl("create", "namespace", SPACE)
    rig.kubectl("-n", SPACE, "create", "configmap", "precious")
    try:
        rig.run(**{"from": 0, "to": 5, "shape": "burst"})
        assert rig.kubectl.json("-n", SPACE, "get", "configmap", "precious")
        assert not rig.kubectl.json("-n", SPACE, "get", "pods")["items"]
    finally:
        rig.kubectl("delete", "namespace", SPACE)


def test_a_namespace_that_does_not_end_is_waited_for_aloud_and_not_for_long(rig):
    document = {"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": SPACE, "finalizers": ["blackstart.test/stays"]}}  # fmt: skip
    rig.kubectl("create", "-f", "-", document=document)
    try:
        rig.kubectl("delete", "namespace", SPACE, "--wait=false")
        with pytest.raises(ProbeError, match="is being deleted and does not end"):
            rig.run(**{"from": 0, "to": 5, "shape": "burst", "timeout_s": 15, "removal_s": 10})
        assert f"waiting: namespace {SPACE} is being deleted and does not end" in rig.said
    finally:
        freed = json.dumps({"metadata": {"finalizers": None}})
        rig.kubectl("patch", "namespace", SPACE, "--type=merge", "-p", freed)
        rig.kubectl("wait", "--for=delete", f"namespace/{SPACE}", "--timeout=30s")


def test_a_namespace_that_others_have_come_to_use_stays_and_is_named(rig):
    async def drive():
        task = await begun(rig, rig.workload)
        rig.kubectl("-n", SPACE, "create", "secret", "generic", "precious")
        await rig.workload.end()
        with pytest.raises(ProbeError, match="ended before"):
            await task

    try:
        asyncio.run(drive())
        assert rig.kubectl.json("-n", SPACE, "get", "secret", "precious")
        assert not rig.kubectl.json("-n", SPACE, "get", "pods")["items"]
        assert f"namespace {SPACE} kept, since it holds secrets/precious" in rig.said
    finally:
        rig.kubectl("delete", "namespace", SPACE)
