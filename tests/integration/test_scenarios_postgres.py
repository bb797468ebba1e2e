"""Scenarios on PostgreSQL with Patroni, as a user runs them: a failover without loss, and a cut that loses writes."""

from __future__ import annotations

import json

import pytest

from tests.integration.service_rig import run, services_up


@pytest.fixture
def bed(tmp_path, testbed_factory):
    with services_up("postgres", tmp_path, testbed_factory) as made:
        yield made


@pytest.mark.timeout(240)
def test_a_killed_primary_loses_nothing_and_one_cut_off_from_its_peers_does(bed, tmp_path):
    earlier, junit = tmp_path / "earlier.json", tmp_path / "junit.xml"
    earlier.write_text(json.dumps({"spreads": [{"probe": "writes", "after": "kill", "values": [9.0] * 10}]}))
    options = ("--trials", "2", "--settle", "22", "--baseline", str(earlier), "--junit", str(junit))
    code, answer = run(bed, "postgres-primary-killed", *options)
    assert junit.read_text().count("<testsuite ") == 2
    (compared,) = answer["comparisons"]
    assert not compared["worse"]
    assert "too few trials" in compared["words"]
    phases = answer["spreads"][0]["phases"]
    assert list(phases) == [name for name in ("detect", "decide", "act", "serve", "client") if name in phases]
    assert len(phases) >= 4, "what HAProxy says may come too late to be told apart from its first client"
    assert 2 < phases["detect"] < 10, "the lead expires after 5 s"
    assert sum(phases.values()) < answer["spreads"][0]["most_s"] + 0.5
    (spread,) = answer["spreads"]
    assert (spread["trials"], spread["measured"], spread["missed"], spread["lost"]) == (2, 2, 0, 0)
    assert 0.5 < spread["least_s"] <= spread["most_s"] < 60
    assert spread["error_s"] < 1.1
    assert spread["acknowledged"] > 60
    assert code == 0, [row["reason"] for row in answer["runs"]]
    assert bed.ready(90)

    code, answer = run(bed, "postgres-primary-cut-from-peers")
    (loss,) = answer["document"]["losses"]
    assert code == 1, answer["run"]["reason"]
    assert loss["complete"]
    assert loss["lost"] > 10, "asynchronous replication loses what only the old primary had"
    assert sum(last - first + 1 for first, last in loss["lost_ranges"]) == loss["lost"]
    assert loss["lost_s"] > 0.5
    assert "acknowledged records of writes on client were lost" in answer["run"]["reason"]


@pytest.mark.timeout(300)
def test_without_a_majority_writes_are_refused_and_a_planted_split_brain_is_found(bed):
    code, answer = run(bed, "postgres-members-bridge")
    assert code == 0, answer["run"]["reason"]
    (share,) = answer["document"]["shares"]
    assert share["result"] == "met"
    assert share["share"]["lo"] > 0.95, "the primary sees both halves: nobody notices"
    assert bed.ready(90)

    code, answer = run(bed, "postgres-etcd-majority-lost")
    assert code == 0, answer["run"]["reason"]
    (share,) = answer["document"]["shares"]
    assert (share["at_most"], share["share"]["hi"]) == (0, 0), "not one write may be taken"
    assert share["attempts"] > 200
    assert answer["document"]["losses"][0]["lost"] == 0
    assert bed.ready(90)

    code, answer = run(bed, "postgres-split-brain")
    losses = {loss["probe"]: loss for loss in answer["document"]["losses"]}
    assert code == 1, answer["run"]["reason"]
    assert all(loss["complete"] for loss in losses.values())
    assert sum(loss["lost"] for loss in losses.values()) > 30, "what the side that did not win acknowledged"
    assert max(loss["lost_s"] for loss in losses.values()) > 1
