"""Scenarios of the pipeline: a failure that spreads, in order, and names that are not found."""

from __future__ import annotations

import pytest

from tests.integration.service_rig import run, services_up


@pytest.fixture
def bed(tmp_path, testbed_factory):
    pytest.importorskip("redis", reason="pip install 'blackstart[pipeline]'")
    with services_up("pipeline", tmp_path, testbed_factory) as made:
        yield made


@pytest.mark.timeout(240)
def test_a_failure_spreads_from_the_database_and_every_acknowledged_video_is_encoded(bed):
    code, answer = run(bed, "pipeline-database-killed")
    assert code == 0, answer["run"]["reason"]
    (cascade,) = answer["document"]["cascades"]
    assert cascade["result"] == "met"
    assert {step["probe"] for step in cascade["steps"][:2]} == {"database", "videos"}
    database, _, encode = (step["failed"]["value"] for step in cascade["steps"])
    assert database < 0.5
    assert 1.5 < encode < 3, "viewers miss what is not encoded after two seconds"
    (loss,) = answer["document"]["losses"]
    assert (loss["lost"], loss["complete"]) == (0, True)
    assert bed.ready(60)

    code, answer = run(bed, "pipeline-names-not-found")
    assert code == 0, answer["run"]["reason"]
    (share,) = answer["document"]["shares"]
    assert (share["probe"], share["share"]["lo"]) == ("kept", 1.0)
    (row,) = answer["document"]["recoveries"]
    assert row["probe"] == "anew"
    assert 5 < row["recovery"]["value"] < 11, "for as long as names are not found, and no longer"
    assert "good again within half a second of the fault's end" in row["note"]
    assert bed.ready(60)

    code, answer = run(bed, "pipeline-queue-killed")
    assert code == 1, answer["run"]["reason"]
    (loss,) = answer["document"]["losses"]
    assert 5 < loss["lost"] < 80, "what waited in the queue for the worker, three seconds at ten a second"
