"""Scenarios of the edge and of regions: warm and cold caches without an origin, and a region that is lost."""

from __future__ import annotations

import pytest

from tests.integration.service_rig import run, services_up


def values(answer):
    """Recovery of each probe, seconds."""
    return {row["probe"]: row["recovery"]["value"] for row in answer["document"]["recoveries"]}


@pytest.fixture
def edge(tmp_path, testbed_factory):
    with services_up("edge", tmp_path, testbed_factory) as made:
        yield made


@pytest.fixture
def regions(tmp_path, testbed_factory):
    with services_up("regions", tmp_path, testbed_factory) as made:
        yield made


@pytest.mark.timeout(200)
def test_a_warm_edge_serves_without_its_origin_and_a_cold_one_does_not(edge):
    code, answer = run(edge, "edge-origin-lost-warm")
    assert code == 0, answer["run"]["reason"]
    warm = values(answer)
    assert warm["varnish"] == warm["nginx"] == 0, "no client of a warmed object sees it"
    assert warm["status"] == 0, "nor does who looks at the status of a playlist"
    for stream in ("live_varnish", "live_nginx"):
        assert 9.9 < warm[stream] < 20, "no edge can serve a segment that nobody has sent it"
    figures = {figure["name"]: figure for figure in answer["document"]["figures"]}
    lost = figures["live_varnish: stream lost"]
    assert lost["unit"] == "stream-minutes"
    assert 0 < lost["provenance"]["lo"] <= lost["value"] <= lost["provenance"]["hi"] < 20 / 60

    code, answer = run(edge, "edge-origin-lost-cold")
    assert code == 0, answer["run"]["reason"]
    cold = values(answer)
    assert 9.9 < cold["varnish"] < 20, "its cache is in memory"
    assert 0.5 < cold["nginx"] < 8, "its cache is on disk"


@pytest.mark.timeout(120)
def test_a_lost_region_is_served_by_another(regions):
    code, answer = run(regions, "region-lost")
    assert code == 0, answer["run"]["reason"]
    assert 0.2 < values(answer)["clients"] < 10
