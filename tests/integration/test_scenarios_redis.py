"""Scenarios on Redis with Sentinels: a failover without loss, and a cut that no client notices and that loses."""

from __future__ import annotations

import time

import pytest

from tests.integration.service_rig import run, services_up


@pytest.fixture
def bed(tmp_path, testbed_factory):
    with services_up("redis", tmp_path, testbed_factory) as made:
        yield made


@pytest.mark.timeout(180)
def test_a_killed_master_is_replaced_and_one_cut_off_from_its_peers_loses_what_it_acknowledged(bed):
    code, answer = run(bed, "redis-master-killed")
    assert code == 0, answer["run"]["reason"]
    (recovery,) = answer["document"]["recoveries"]
    assert 0.9 < recovery["recovery"]["value"] < 30, "the Sentinels wait for a second before they call it down"
    assert answer["document"]["losses"][0]["lost"] == 0
    time.sleep(12)  # twice their time-out: until they look at the next failure of this master

    code, answer = run(bed, "redis-master-cut-from-peers")
    (loss,) = answer["document"]["losses"]
    assert code == 1, answer["run"]["reason"]
    assert (loss["complete"], loss["duplicated"]) == (True, 0)
    assert loss["lost"] > 10
    assert sum(last - first + 1 for first, last in loss["lost_ranges"]) == loss["lost"]
