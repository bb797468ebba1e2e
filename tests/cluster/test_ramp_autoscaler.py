"""A ramp that an autoscaler drives: plain HorizontalPodAutoscaler v2, on a metric that the test serves."""

from __future__ import annotations

import pytest

from blackstart.local.cluster.plane import Plane, Settings
from tests.cluster.metric_server import MetricServer
from tests.cluster.test_ramp import figure, limiters, rig_of

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def scaling(programs, tmp_path_factory):
    """It looks every four seconds, and its controllers are held up by nothing else."""
    flags = ("--horizontal-pod-autoscaler-sync-period=4s", "--kube-api-qps=500", "--kube-api-burst=500")
    settings = Settings(extra={"kube-controller-manager": flags})
    with Plane(programs, tmp_path_factory.mktemp("scaling"), settings) as made:
        yield made


def test_an_autoscaler_scales_by_a_metric_and_is_named(scaling, programs, tmp_path, monkeypatch):
    rig = rig_of(scaling, programs, tmp_path / "ramps", monkeypatch)
    server = MetricServer(scaling, "videos_waiting")
    try:
        server.value = 60
        server.register(rig.kubectl)
        done = rig.run(**{"from": 4, "to": 60, "mode": "hpa", "metric": "videos_waiting"})
    finally:
        server.close()
    assert server.asked > 1
    assert [(one["way"], one["to"]) for one in done.detail["stages"]] == [("up", 4), ("up", 60), ("down", 4)]
    assert limiters(done) == ["autoscaler"], done.summary
    assert figure(done, "ramp up") > 4, "by doubling, at each look"
    assert rig.is_clean()
