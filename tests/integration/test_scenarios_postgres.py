"""Scenarios on PostgreSQL with Patroni, as a user runs them: a failover without loss, and a cut that loses writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from blackstart.local import service_file, services

ROOT = Path(__file__).parents[2]
POSTGRES = ROOT / "deploy" / "services" / "postgres.yaml"
PROFILE = ROOT / "experiments" / "profiles" / "dailydoco.yaml"


@pytest.fixture
def bed(tmp_path, testbed_factory):
    described = service_file.load(POSTGRES)
    if lacks := ", ".join(described.missing()):
        pytest.skip(f"install {lacks}")
    testbed_factory([]).close()  # skips where there are no hosts
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # the database does not run as root
    over = threading.Event()
    with services.ServiceBed(described, tmp_path / "state") as made:

        def watch() -> None:
            while not over.wait(0.2):
                made.watch(time.monotonic())

        watching = threading.Thread(target=watch)
        watching.start()
        yield made
        over.set()
        watching.join()


def run(bed, name, *options):
    file = ROOT / "experiments" / "reliability" / f"postgres-{name}.yaml"
    command = [str(Path(sys.executable).with_name("blackstart")), "run", str(file), "--profile", str(PROFILE), "--json"]
    environment = {**os.environ, **services.environment(bed.state)}
    done = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, check=False, timeout=150
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.timeout(240)
def test_a_killed_primary_loses_nothing_and_one_cut_off_from_its_peers_does(bed):
    code, answer = run(bed, "primary-killed", "--trials", "2", "--settle", "6")
    (spread,) = answer["spreads"]
    assert (spread["trials"], spread["measured"], spread["missed"], spread["lost"]) == (2, 2, 0, 0)
    assert 0.5 < spread["least_s"] <= spread["most_s"] < 60
    assert spread["error_s"] < 1.1
    assert spread["acknowledged"] > 60
    assert code == 0, [row["reason"] for row in answer["runs"]]
    time.sleep(6)

    code, answer = run(bed, "primary-cut-from-peers")
    (loss,) = answer["document"]["losses"]
    assert code == 1, answer["run"]["reason"]
    assert loss["complete"]
    assert loss["lost"] > 10, "asynchronous replication loses what only the old primary had"
    assert sum(last - first + 1 for first, last in loss["lost_ranges"]) == loss["lost"]
    assert loss["lost_s"] > 0.5
    assert "acknowledged records of writes on client were lost" in answer["run"]["reason"]
