"""Scenarios on NATS JetStream: a stream that loses its leader, and a leader that is alone and must not acknowledge."""

from __future__ import annotations

import pytest

from tests.integration.service_rig import run, services_up


@pytest.fixture
def bed(tmp_path, testbed_factory):
    with services_up("nats", tmp_path, testbed_factory) as made:
        yield made


@pytest.mark.timeout(240)
def test_a_killed_leader_is_replaced_and_one_that_is_alone_acknowledges_nothing(bed):
    code, answer = run(bed, "nats-node-killed")
    assert code == 0, answer["run"]["reason"]
    (recovery,) = answer["document"]["recoveries"]
    assert 2 < recovery["recovery"]["value"] < 30, "an election begins after four seconds without the leader"
    (loss,) = answer["document"]["losses"]
    assert (loss["complete"], loss["lost"], loss["duplicated"]) == (True, 0, 0)
    assert loss["acknowledged"] > 50
    assert bed.ready(60)

    code, answer = run(bed, "nats-cluster-split")
    assert code == 0, answer["run"]["reason"]
    losses = {row["probe"]: row for row in answer["document"]["losses"]}
    assert len(losses) == 4
    assert all((row["complete"], row["lost"], row["duplicated"]) == (True, 0, 0) for row in losses.values())
    alone = min(losses.values(), key=lambda row: row["acknowledged"])
    assert alone["sent"] - alone["acknowledged"] > 100, "the client of the leader that was cut off was not answered"
