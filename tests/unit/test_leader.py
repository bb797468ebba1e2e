"""The election by a Lease, on a played API server and a virtual clock: who may lead, and when nobody may any more."""

from __future__ import annotations

import asyncio
import copy
import json

import pytest

from controller.cluster import NO_ANSWER, ClusterError
from controller.leader import Candidate
from tests.unit import virtual_time

LEASE_S = 15
PATH = "/apis/coordination.k8s.io/v1/namespaces/here/leases"


class Cluster:
    """One Lease, with resource versions as the API server has them."""

    def __init__(self) -> None:
        self.lease, self.version, self.away, self.writes, self.before_put = None, 0, False, [], None

    async def ask(self, method, path, document, timeout_s):
        assert timeout_s < LEASE_S
        await asyncio.sleep(0.01)
        if self.away == "hangs":
            await asyncio.sleep(3600)
        if self.away:
            raise ClusterError("does not answer: refused", NO_ANSWER)
        assert path == PATH + ("" if method == "POST" else "/one")
        if method == "GET":
            if self.lease is None:
                raise ClusterError("refuses it (404): not found", 404)
            return copy.deepcopy(self.lease)
        if self.before_put:
            self.before_put()
        if (method == "POST") is (self.lease is not None):
            raise ClusterError("refuses it", 409 if method == "POST" else 404)
        if method == "PUT" and document["metadata"].get("resourceVersion") != str(self.version):
            raise ClusterError("refuses it (409): the object has been modified", 409)
        self.write(document)
        return self.lease

    def write(self, document) -> None:
        self.version += 1
        self.lease = json.loads(json.dumps(document))
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self.writes.append(self.lease["spec"])

    def held_by(self, holder, duration_s=LEASE_S, **more) -> None:
        spec = {"holderIdentity": holder, "leaseDurationSeconds": duration_s, **more}
        self.write({"metadata": {"name": "one", "labels": {"a": "b"}}, "spec": spec})


def candidate(cluster, name="me") -> Candidate:
    loop = asyncio.get_running_loop()
    return Candidate(cluster.ask, "here/one", LEASE_S, name, loop.time)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def run(body):
    return virtual_time.run(body())


def test_the_first_makes_the_lease_and_leads_at_once():
    async def body():
        cluster, begun_s = Cluster(), now_s()
        me = candidate(cluster)
        assert not me.leads()
        await me.win(pytest.fail)
        assert now_s() - begun_s < 0.1
        assert me.leads()
        assert cluster.lease["spec"]["holderIdentity"] == "me"
        assert cluster.lease["spec"]["leaseDurationSeconds"] == LEASE_S
        assert cluster.lease["spec"]["leaseTransitions"] == 0

    run(body)


@pytest.mark.parametrize("renewed", ["1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"])
def test_a_holder_counts_as_gone_when_its_record_has_not_changed_for_its_own_duration(renewed):
    """Whatever the record's clock says."""

    async def body():
        cluster, said = Cluster(), []
        cluster.held_by("old", 40, renewTime=renewed, leaseTransitions=6, preferredHolder="kept")
        begun_s = now_s()
        await candidate(cluster).win(said.append)
        assert 40 <= now_s() - begun_s < 43
        assert said == ["old leads"]
        assert cluster.lease["spec"]["leaseTransitions"] == 7
        assert cluster.lease["spec"]["preferredHolder"] == "kept"
        assert cluster.lease["metadata"]["labels"] == {"a": "b"}, "the rest of the object is kept"

    run(body)


def test_every_change_of_the_record_begins_the_wait_anew():
    async def body():
        cluster, begun_s = Cluster(), now_s()
        cluster.held_by("old", renewTime="0")
        winning = asyncio.create_task(candidate(cluster).win(lambda _: None))
        for beat in range(1, 9):
            await asyncio.sleep(10)
            assert not winning.done()
            cluster.held_by("old", renewTime=str(beat))
        await winning
        assert 80 + LEASE_S <= now_s() - begun_s < 84 + LEASE_S

    run(body)


def test_two_who_see_it_free_at_the_same_time_are_not_both_let_in():
    async def body():
        cluster = Cluster()
        cluster.held_by("")
        both = [candidate(cluster, name) for name in ("a", "b")]
        tasks = [asyncio.create_task(one.win(lambda _: None)) for one in both]
        await asyncio.sleep(5)
        assert sorted(one.leads() for one in both) == [False, True]
        assert sorted(task.done() for task in tasks) == [False, True]
        for task in tasks:
            task.cancel()

    run(body)


def test_who_renews_leads_on_and_who_was_given_it_back_takes_it_at_once():
    async def body():
        cluster = Cluster()
        me, other = candidate(cluster), candidate(cluster, "other")
        await me.win(pytest.fail)
        acquired = cluster.lease["spec"]["acquireTime"]
        keeping = asyncio.create_task(me.keep())
        waiting = asyncio.create_task(other.win(lambda _: None))
        for _ in range(100):
            await asyncio.sleep(1)
            assert me.leads()
        assert cluster.lease["spec"]["acquireTime"] == acquired
        assert not keeping.done()
        assert not waiting.done()
        keeping.cancel()
        await me.release()
        assert not me.leads()
        assert cluster.lease["spec"]["holderIdentity"] == ""
        released_s = now_s()
        await waiting
        assert now_s() - released_s <= 2.1
        assert cluster.lease["spec"]["leaseTransitions"] == 1

    run(body)


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_who_cannot_renew_gives_up_before_another_may_take_over(how):
    async def body():
        cluster = Cluster()
        me = candidate(cluster)
        await me.win(pytest.fail)
        keeping = asyncio.create_task(me.keep())
        await asyncio.sleep(30)
        cluster.away, away_s = how, now_s()
        why = await keeping
        assert 8 - 0.1 <= now_s() - away_s <= 10
        assert not me.leads()
        assert "could not be renewed for 10 s: the cluster does not answer" in why

    run(body)


def test_an_api_server_that_is_away_for_a_moment_costs_nothing():
    async def body():
        cluster = Cluster()
        me = candidate(cluster)
        await me.win(pytest.fail)
        keeping = asyncio.create_task(me.keep())
        for _ in range(5):
            await asyncio.sleep(3)
            cluster.away = True
            await asyncio.sleep(6)
            assert me.leads()
            cluster.away = False
        assert not keeping.done()
        keeping.cancel()

    run(body)


def test_a_process_that_stood_still_leads_no_more_when_it_goes_on():
    async def body():
        cluster = Cluster()
        me = candidate(cluster)
        await me.win(pytest.fail)
        keeping = asyncio.create_task(me.keep())
        await asyncio.sleep(30)
        asyncio.get_running_loop().freeze(60)
        assert not me.leads(), "even before its own loop has turned"
        cluster.held_by("other")
        writes = len(cluster.writes)
        assert "could not be renewed" in await keeping
        assert len(cluster.writes) == writes

    run(body)


def test_a_renewal_that_took_long_counts_from_when_it_was_asked_for():
    async def body():
        cluster = Cluster()
        me = candidate(cluster)
        await me.win(pytest.fail)
        loop = asyncio.get_running_loop()
        cluster.before_put = lambda: loop.freeze(11)
        assert "could not be renewed" in await me.keep()

    run(body)


def test_who_finds_another_holder_ends_at_once_and_takes_nothing_back():
    async def body():
        cluster = Cluster()
        me = candidate(cluster)
        await me.win(pytest.fail)
        keeping = asyncio.create_task(me.keep())
        await asyncio.sleep(4.5)
        cluster.held_by("thief")
        taken_s = now_s()
        assert await keeping == "the lease has been taken by thief"
        assert now_s() - taken_s < 2.1
        await me.release()
        assert cluster.lease["spec"]["holderIdentity"] == "thief"

    run(body)


def test_a_cluster_that_cannot_be_asked_is_asked_again_and_said_once():
    async def body():
        cluster, said = Cluster(), []
        cluster.away = True
        winning = asyncio.create_task(candidate(cluster).win(said.append))
        await asyncio.sleep(20)
        assert said == ["nobody can be asked who leads: the cluster does not answer: refused"]
        cluster.away = False
        await winning

    run(body)


def test_who_never_tried_gives_nothing_back():
    async def body():
        cluster = Cluster()
        cluster.away = "hangs"
        await candidate(cluster).release()

    run(body)
