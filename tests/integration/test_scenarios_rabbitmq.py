"""Scenarios on RabbitMQ: a quorum queue that loses its leader, and a leader that is alone and must not confirm."""

from __future__ import annotations

import pytest

from tests.integration.service_rig import run, services_up


@pytest.fixture
def bed(tmp_path, testbed_factory):
    with services_up("rabbitmq", tmp_path, testbed_factory) as made:
        yield made


@pytest.mark.timeout(300)
def test_a_killed_leader_is_replaced_and_one_that_is_alone_confirms_nothing(bed):
    code, answer = run(bed, "rabbitmq-node-killed")
    assert code == 0, answer["run"]["reason"]
    (recovery,) = answer["document"]["recoveries"]
    assert 0 < recovery["recovery"]["value"] < 30, "its peers see the connections of Erlang break at once"
    (loss,) = answer["document"]["losses"]
    assert (loss["complete"], loss["lost"], loss["duplicated"]) == (True, 0, 0)
    assert loss["acknowledged"] > 50
    assert bed.ready(90)

    code, answer = run(bed, "rabbitmq-cluster-split")
    assert code == 0, answer["run"]["reason"]
    losses = {row["probe"]: row for row in answer["document"]["losses"]}
    assert len(losses) == 4
    assert all((row["complete"], row["lost"], row["duplicated"]) == (True, 0, 0) for row in losses.values())
    counts = sorted(row["acknowledged"] for row in losses.values())
    assert counts[0] < counts[-1] - 100, "the client of the leader that was cut off was not answered"
