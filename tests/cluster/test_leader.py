"""Two real controllers, a Lease on a real API server, a real PostgreSQL: who serves, who stands by, who takes over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from datetime import datetime

import pytest

from agent.system import proc
from protos.error import BlackstartError
from tests.cluster import leader_rig
from tests.cluster.conftest import Kubectl
from tests.cluster.leader_rig import LEASE_S, NAME, RENEW_S, RETRY_S, START_S, Fleet, stopped, wait_for
from tests.cluster.test_deployment import attempt
from tests.contract import postgres_rig
from tests.integration.test_spine import driving

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]
WRITTEN = "SELECT (SELECT count(*) FROM audit), (SELECT count(*) FROM settings), epoch FROM leadership"
SLEEPER = [sys.executable, "-c", "import time\nwhile True: time.sleep(0.01)"]


@pytest.fixture(scope="module")
def server():
    if told := postgres_rig.missing():
        pytest.skip(told)
    made = postgres_rig.Postgres()
    made.start()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def rights(programs, plane):
    leader_rig.install(Kubectl(programs["kubectl"], plane.admin))


@pytest.fixture
def store(server):
    """Asks the store's database, as somebody else would."""
    name = f"store_{uuid.uuid4().hex}"
    server.sql(f"CREATE DATABASE {name}")

    def ask(text: str) -> str:
        dsn = server.dsn.rpartition("/")[0] + f"/{name}"
        done = subprocess.run(["psql", "-AtqX", "-d", dsn, "-c", text], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    ask.url = f"postgresql+asyncpg://postgres@127.0.0.1:{server.port}/{name}"
    return ask


@pytest.fixture
def fleet(rights, plane, kubectl, store, tmp_path):
    del rights
    made = Fleet(tmp_path, plane, kubectl, store.url)
    yield made
    made.close()


def tell(what: str, took_s: float) -> None:
    print(f"\ntakeover, {what}: {took_s:.2f} s (lease {LEASE_S} s)")


def test_one_serves_and_the_other_stands_by_without_a_port_or_a_connection_to_the_store(fleet, store):
    leader, standby = fleet.pair("127.0.0.2")
    assert leader.listens()
    assert fleet.spec()["leaseDurationSeconds"] == LEASE_S
    time.sleep(LEASE_S + 2)
    with leader.client() as client:
        assert client.agents() == []
    assert not standby.listens()
    assert standby.said("ready") is None
    assert not (standby.state / "admin").exists(), "not even its certificates are made"
    assert store("SELECT epoch FROM leadership") == "1"
    assert all(time.time() - member.alive.stat().st_mtime < 8 for member in (leader, standby))
    assert leader.lives()
    assert standby.lives()
    begun = time.monotonic()
    standby.process.send_signal(signal.SIGTERM)
    assert standby.ended(10) == 0
    assert time.monotonic() - begun < 3
    assert leader.listens()
    os.utime(standby.alive, (time.time() - 61,) * 2)
    assert not standby.lives(), "nobody has touched it for a minute"


def test_sigkill_of_the_leader_and_the_standby_closes_its_runs(fleet, store):
    leader, standby = fleet.pair()
    fleet.agent(leader.address)
    target = subprocess.Popen(SLEEPER)
    try:
        with leader.client() as client:
            wait_for(lambda: [a for a in client.agents() if a.connected], 20)
            with driving(client, "leader lost") as run_id:
                arguments = {"fault": "process.pause", "targets": {"labels": {"role": "web"}}, "name": "pause",
                             "spec": {"pid": target.pid}, "duration_s": 120, "on_lost_controller": "hold"}  # fmt: skip
                assert client.invoke(run_id, "inject", arguments)["confirmed"]
                assert proc.is_stopped(proc.identify(target.pid))
                killed = time.monotonic()
                leader.process.kill()
                took_s = standby.ready(LEASE_S + RETRY_S + START_S) - killed
        tell("SIGKILL", took_s)
        assert took_s > LEASE_S - 2 * RETRY_S, "not before the lease had run out"
        with standby.client() as client:
            wait_for(lambda: [a for a in client.agents() if a.connected], 20)
            tell("SIGKILL, until the agent is there", time.monotonic() - killed)
            wait_for(lambda: client.show(run_id)[0].state == "ended", 30)
            run, more = client.show(run_id)
        assert (run.outcome, run.verdict) == ("lost", "inconclusive")
        assert "The controller restarted while" in run.reason
        assert any(event["kind"] == "controller.restarted" for event in more["events"])
        assert not proc.is_stopped(proc.identify(target.pid)), "the effect was to be held until somebody closed the run"
        assert store("SELECT epoch FROM leadership") == "2"
    finally:
        target.kill()
        target.wait()


def test_sigterm_of_the_leader_gives_the_lease_back(fleet):
    leader, standby = fleet.pair()
    leader.process.send_signal(signal.SIGTERM)
    assert leader.ended(30) == 0
    gone, gone_wall_s = time.monotonic(), time.time()
    tell("SIGTERM, from the end of the old", standby.ready() - gone)
    spec = fleet.spec()
    acquired_s = datetime.fromisoformat(spec["acquireTime"]).timestamp() - gone_wall_s
    assert acquired_s < RETRY_S + 2, "it had not to run out first"
    assert spec["leaseTransitions"] == 1
    assert spec["leaseDurationSeconds"] == LEASE_S


def test_a_leader_that_stood_still_past_its_lease_neither_serves_nor_writes_when_it_goes_on(fleet, store):
    leader, standby = fleet.pair("127.0.0.2")
    late: list[str] = []
    with leader.client() as client:
        client.agents()

        def stop_all() -> None:
            try:
                client.stop("late")
            except BlackstartError as error:
                late.append(str(error))
            else:
                late.append("served")

        begun = time.monotonic()
        with stopped(leader.process):
            calling = threading.Thread(target=stop_all)
            calling.start()
            took_s = standby.ready(LEASE_S + RETRY_S + START_S) - begun
            tell("SIGSTOP", took_s)
            with standby.client() as other:
                other.agents()
            before = store(WRITTEN)
        assert leader.ended(10) == 3
        calling.join(30)
    assert late != ["served"]
    assert "leads no more: the lease could not be renewed for 4 s" in leader.text()
    after = store(WRITTEN)
    assert before == after
    assert not leader.listens()
    with standby.client() as other:
        assert not [row for row in other.audit() if row.method == "Stop"]
        assert other.stop("mine").stopped


def test_a_file_that_a_leader_that_stands_still_has_locked_is_waited_for(fleet):
    url = f"sqlite+aiosqlite:///{fleet.folder / 'store.sqlite'}"
    leader, standby = fleet.pair("127.0.0.2", store_url=url)
    with stopped(leader.process):
        wait_for(lambda: "waiting for the store" in standby.text(), LEASE_S + RETRY_S + START_S)
        time.sleep(LEASE_S)
        assert standby.process.poll() is None
        assert not standby.listens()
        assert standby.text().count("waiting for the store") >= 2, "it says so again and again"
        begun = time.monotonic()
    assert leader.ended(10) == 3
    tell("SIGSTOP, a file, from SIGCONT", standby.ready() - begun)


def test_who_waits_for_a_file_ends_when_it_is_told_and_gives_the_lease_back(fleet):
    url = f"sqlite+aiosqlite:///{fleet.folder / 'store.sqlite'}"
    leader, standby = fleet.pair("127.0.0.2", store_url=url)
    with stopped(leader.process):
        wait_for(lambda: "waiting for the store" in standby.text(), LEASE_S + RETRY_S + START_S)
        assert fleet.holder() != ""
        standby.process.send_signal(signal.SIGTERM)
        assert standby.ended(10) == 0
        assert fleet.holder() == ""


def test_a_leader_whom_the_api_server_does_not_answer_ends_before_another_may_lead(fleet, plane):
    leader, standby = fleet.pair("127.0.0.2")
    begun = time.monotonic()
    with stopped(plane.members["kube-apiserver"].process):
        assert leader.ended(RENEW_S + 5) == 3
        took_s = time.monotonic() - begun
        print(f"\nthe leader ended {took_s:.2f} s after the API server (renew deadline {RENEW_S:g} s)")
        assert RENEW_S - RETRY_S - 0.3 <= took_s < LEASE_S - RETRY_S
        assert not leader.listens()
        assert standby.process.poll() is None
    assert "leads no more: the lease could not be renewed for 4 s: the cluster does not answer" in leader.text()
    standby.ready(LEASE_S + RETRY_S + START_S)


def test_a_lease_that_is_taken_away_ends_the_leader_at_once(fleet, kubectl):
    leader = fleet.start("one")
    leader.ready()
    kubectl("-n", leader_rig.NAMESPACE, "patch", "lease", NAME, "--type=merge",
            "-p", json.dumps({"spec": {"holderIdentity": "thief"}}))  # fmt: skip
    begun = time.monotonic()
    assert leader.ended(RENEW_S) == 3
    assert time.monotonic() - begun < RETRY_S + 2
    assert "the lease has been taken by thief" in leader.text()


def test_the_account_may_touch_its_own_lease_and_no_other(fleet, plane, kubectl):
    for place in ("blackstart", "default"):
        for name in (NAME, "another"):
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                     "metadata": {"name": name, "namespace": place}}  # fmt: skip
            kubectl("create", "-f", "-", document=lease)
    token = (fleet.account / "token").read_text()
    leases = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
    found = {
        (method, place, name): attempt(plane, token, method, leases.format(place) + f"/{name}?dryRun=All")[0]
        for method in ("GET", "PUT", "PATCH", "DELETE")
        for place in ("blackstart", "default")
        for name in (NAME, "another")
    }
    found |= {(method, place, ""): attempt(plane, token, method, leases.format(place) + "?dryRun=All")[0]
              for method in ("GET", "POST", "DELETE") for place in ("blackstart", "default")}  # fmt: skip
    allowed = {what for what, status in found.items() if status != 403}
    assert allowed == {("GET", "blackstart", NAME), ("PUT", "blackstart", NAME), ("POST", "blackstart", "")}
    kubectl("-n", "default", "delete", "lease", NAME, "another")
    kubectl("-n", "blackstart", "delete", "lease", "another")
