"""The pure parts of a scale ramp: stages, columns, counters, and which limiter the evidence names."""

from __future__ import annotations

from array import array

import msgspec
import pytest

from agent.workloads import ramp_figure
from agent.workloads.ramp import limiter, measure, prometheus, stage
from agent.workloads.ramp.columns import Columns, Condition, Pod, epoch_s
from agent.workloads.ramp.limiter import NOT_DECIDED, Evidence, bound
from agent.workloads.ramp.objects import quantity
from agent.workloads.ramp.spec import parse
from protos.error import SpecError


@pytest.mark.parametrize(
    ("spec", "levels"),
    [
        ({"from": 10, "to": 10_000, "stages": 3}, [10, 3340, 6670, 10_000]),
        ({"from": 10, "to": 10_000, "stages": 3, "shape": "exponential"}, [10, 100, 1000, 10_000]),
        ({"from": 10, "to": 10_000, "shape": "burst"}, [10, 10_000]),
        ({"from": 0, "to": 3, "stages": 9}, [0, 1, 2, 3]),
        ({"from": 8, "to": 80, "stages": 4, "gang": 8}, [8, 24, 48, 64, 80]),
        ({"from": 5, "to": 50, "mode": "hpa", "metric": "m"}, [5, 50]),
        ({"from": 7, "to": 7}, [7]),
    ],
)
def test_stages_rise_from_the_first_to_the_last(spec, levels):
    assert stage.levels(parse(spec)) == levels


def test_all_that_is_wrong_with_a_spec_is_said_at_once():
    with pytest.raises(SpecError) as refused:
        parse(
            {"from": 20, "to": 10, "namespace": "Not_One", "cpu": "much", "stages": 0, "metrics": {"etcd": "http://x"}}
        )
    text = str(refused.value)
    for word in ("from 20 to 10", "Not_One", "cpu: 'much'", "stages: 0", "'etcd' is none", "https://"):
        assert word in text, word
    for wrong in (
        {"to": 10, "mode": "hpa"}, {"to": 10, "gang": 4}, {"to": True}, {"shape": "cubic"}, {"qps": float("nan")},
        {"timeout_s": 60, "removal_s": 60}, {"unknown": 1}, {"from": 0, "shape": "exponential"},
    ):  # fmt: skip
        with pytest.raises(SpecError):
            parse(wrong)


def pod(name: str, **status) -> Pod:
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": f"2026-11-28T10:00:{second:02d}Z"}
        for kind, second in status.items()
    ]
    document = {
        "metadata": {"name": name, "creationTimestamp": "2026-11-28T10:00:01Z"},
        "status": {"conditions": conditions},
    }
    return msgspec.convert(document, Pod)


def test_a_pod_is_stamped_once_a_step_and_counted_as_long_as_it_lives():
    columns = Columns("r-", 2)
    columns.take("ADDED", pod("r-000001"), 10)
    columns.take("MODIFIED", pod("r-000001", PodScheduled=2), 20)
    columns.take("MODIFIED", pod("r-000001", PodScheduled=2, Ready=5), 30)
    columns.take("MODIFIED", pod("r-000001", PodScheduled=2, Ready=5), 40)
    assert [columns.ns[name][1] for name in ("seen", "scheduled", "ready", "gone")] == [10, 20, 30, 0]
    assert (columns.live("seen"), columns.live()) == (1, 1)
    assert columns.s["api_ready"][1] - columns.s["api_created"][1] == 4.0
    columns.take("DELETED", pod("r-000001", PodScheduled=2, Ready=5), 50)
    columns.take("ADDED", pod("r-000000"), 60)
    columns.take("DELETED", pod("r-000000"), 70)
    assert (columns.live("seen"), columns.live("scheduled"), columns.live(), columns.count["gone"]) == (0, 0, 0, 2)


def test_pods_of_a_controller_get_the_next_number_and_room():
    columns = Columns("", 1)
    for number in range(3):
        columns.take("ADDED", pod(f"web-{number}x"), number + 1)
    assert list(columns.ns["seen"])[:3] == [1, 2, 3]
    assert columns.live("seen") == 3


def test_stamps_of_the_api_are_seconds_of_utc():
    assert epoch_s("2026-11-28T18:00:07Z") == 1795888807.0
    assert (quantity("100m"), quantity("2"), quantity("1Ki"), quantity("256Gi")) == (0.1, 2.0, 1024.0, 256 * 2.0**30)


PAGE = """# TYPE apiserver_request_sli_duration_seconds histogram
apiserver_request_sli_duration_seconds_bucket{verb="POST",resource="pods",le="0.1"} 90
apiserver_request_sli_duration_seconds_bucket{verb="POST",resource="pods",le="0.5"} 98
apiserver_request_sli_duration_seconds_bucket{verb="POST",resource="pods",le="1"} 100
apiserver_request_sli_duration_seconds_bucket{verb="POST",resource="pods",le="+Inf"} 100
apiserver_request_sli_duration_seconds_bucket{verb="WATCH",resource="pods",le="+Inf"} 7
other_metric{name="a \\"quoted\\" one"} NaN
"""


def test_a_quantile_of_a_histogram_is_the_bucket_that_it_lies_in():
    found = prometheus.parse(PAGE, ("apiserver_request_sli",))
    name = "apiserver_request_sli_duration_seconds"
    of_posts = lambda labels: labels["verb"] == "POST"  # noqa: E731
    assert prometheus.quantile(found, name, 0.99, of_posts) == (0.5, 1.0, 100)
    assert prometheus.quantile(found, name, 0.5, of_posts) == (0.0, 0.1, 100)
    assert prometheus.quantile(found, name, 0.99, lambda _: False) is None
    assert prometheus.total(found, "nothing") is None
    later = {key: value + 5 for key, value in found.items()}
    assert set(prometheus.difference(later, found).values()) == {5.0}
    assert prometheus.difference({("a", ()): 3.0}, {("a", ()): 9.0}) == {("a", ()): 3.0}, "it began anew"


def test_spreads_and_rates():
    assert measure.spread([]) == {"n": 0}
    assert measure.spread(range(1, 101)) == {"n": 100, "p50": 50, "p95": 95, "p99": 99, "max": 100}
    second = 1_000_000_000
    seen = measure.rate([second, 2 * second, 2 * second + 1, 0, 4 * second], 0)
    assert seen == {"n": 4, "span_s": 4.0, "mean": 1.0, "peak": 2.0}


def test_a_pod_that_never_got_ready_has_waited_to_the_end():
    columns = Columns("r-", 2)
    for name, stamps in {"acked": [1, 1], "scheduled": [2, 0], "ready": [5, 0]}.items():
        columns.ns[name] = array("q", [stamp * 1_000_000_000 for stamp in stamps])
    assert measure.waits(columns, range(2), 0, 10_000_000_000) == (1.0, 5.0, 1.5)


def test_gpus_in_a_gang_that_is_not_whole_stand_idle():
    columns = Columns("r-", 4)
    for name, stamps in {"asked": [1, 1, 1, 1], "scheduled": [2, 4, 3, 0], "ready": [5, 6, 9, 0]}.items():
        columns.ns[name] = array("q", [stamp * 1_000_000_000 for stamp in stamps])
    seen = measure.gangs(columns, 2, 4, 8, 13_000_000_000)
    assert (seen["whole"], seen["incomplete"], seen["none"], seen["gpus_wasted_at_end"]) == (1, 1, 0, 8)
    assert seen["whole_s"]["max"] == 5.0
    assert seen["idle_gpu_s"] == 8 * ((6 - 2) + (6 - 4)) + 8 * (13 - 3)


CREATE = {"create_s": 5.0, "schedule_s": 0.1, "play_s": 0.1}
SCHEDULE = {"create_s": 0.1, "schedule_s": 5.0, "play_s": 0.1}
PLAY = {"create_s": 0.1, "schedule_s": 0.1, "play_s": 5.0}


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        (CREATE | {"paced_fraction": 0.9}, "client QPS"),
        (CREATE | {"paced_fraction": 0.9, "pace": "asked duration"}, "asked duration"),
        (CREATE | {"paced_fraction": 0.2}, NOT_DECIDED),
        (CREATE | {"held_fraction": 0.7, "refused": 9, "cpu_busy": 1.0}, "API priority and fairness"),
        (CREATE | {"apf_fraction": 0.8}, "API priority and fairness"),
        (CREATE | {"apf_fraction": 0.1, "cpu_busy": 0.99}, "this machine's CPU"),
        (CREATE | {"cpu_busy": 0.97, "etcd_fraction": 0.9}, "this machine's CPU"),
        (CREATE | {"cpu_busy": 0.97, "cpu_own": 0.8}, "this machine's CPU"),
        (CREATE | {"cpu_busy": 0.97, "cpu_own": 0.3}, "this machine's CPU, taken by other programs"),
        (CREATE | {"etcd_fraction": 0.8, "cpu_busy": 0.4}, "etcd"),
        (CREATE | {"controlled": True, "controllers_throttled": 1.0}, "client QPS of the controllers"),
        (CREATE | {"controlled": True, "controllers_busy": 0.99, "depth": 3}, "controller concurrency"),
        (CREATE | {"controlled": True, "controllers_busy": None}, NOT_DECIDED),
        (CREATE | {"decide_s": 60.0, "controlled": True}, "autoscaler"),
        (SCHEDULE | {"scheduler_throttled": 40.0, "cpu_busy": 1.0}, "client QPS of the scheduler"),
        (SCHEDULE | {"scheduler_throttled": 2.0, "schedule_queue": 90.0}, NOT_DECIDED),
        (SCHEDULE | {"scheduler_busy": 0.95}, "scheduler"),
        (SCHEDULE, NOT_DECIDED),
        (SCHEDULE | {"unfinished": 3, "unschedulable": 3}, "no room on the nodes"),
        (PLAY, "node stand-in (KWOK)"),
        (PLAY | {"played": False}, "nodes"),
        ({"create_s": 1.0, "schedule_s": 1.0, "play_s": 1.0}, NOT_DECIDED),
        ({"create_s": 1.0, "schedule_s": 1.0, "play_s": 1.0, "cpu_busy": 0.99}, "this machine's CPU"),
        ({}, NOT_DECIDED),
    ],
)
def test_the_limiter_is_the_one_whose_evidence_is_there(seen, name):
    found = bound(Evidence(**seen))
    assert found.name == name, found.because
    assert found.because


def test_every_step_can_be_held_up_by_something():
    assert set(limiter._STEPS) == {"decide", "create", "schedule", "play"}


@pytest.mark.parametrize(
    ("lo", "hi", "result"),
    [(1, 2, "met"), (3, 6, "inconclusive"), (6, 7, "missed"), (1, None, "missed"), (5, 5, "met")],
)
def test_an_objective_is_held_against_both_bounds(lo, hi, result):
    assert ramp_figure._held("x", 5.0, lo, hi)["result"] == result


def result(watch: list[float], api: list[float], *, count: int = 100, played: bool = True) -> dict:
    """Of a ramp from nothing to *count* pods in one stage, of which those with a latency became Ready."""
    columns = Columns("r-", count)
    for at, (span, stamp) in enumerate(zip(watch, api, strict=True)):
        columns.ns["asked"][at], columns.ns["ready"][at] = 1_000_000_000, int((1 + span) * 1e9)
        columns.s["api_created"][at], columns.s["api_ready"][at] = 100.0, 100.0 + stamp
    pods, begin_ns = range(count), 500_000_000
    up = {"way": "up", "from": 0, "to": count, "ended": "" if len(watch) == count else "stalled", "begin_ns": begin_ns,
          "end_ns": int((1 + max(watch)) * 1e9), "rates": measure.rates(columns, pods, begin_ns)}  # fmt: skip
    top = {"ready": len(watch), "scheduled": 0, "fraction": {}, "allocatable": {"nodes": 1}}
    real = {} if played else {"node_selector": {}}
    spec = msgspec.to_builtins(parse({"from": 0, "to": count, "ramp_max_s": 5.0} | real))
    return {"spec": spec, "stages": [up], "top": top, "latency": measure.latencies(columns, pods), "slo": {},
            "calls": {"mutating_s": {"n": 0}, "reading_s": {"n": 0}}, "processes": {},
            "removal": {"removed_s": 1.0, "namespace": "gone"}}  # fmt: skip


def goal(seen: dict, name: str) -> dict:
    return next(one for one in ramp_figure.objectives(seen) if one["name"] == name)


@pytest.mark.parametrize(
    ("watch_s", "api_s", "said"),
    [(4.9, 4.0, "met"), (5.3, 5.0, "inconclusive"), (5.3, 3.0, "inconclusive"), (6.9, 7.0, "missed")],
)
def test_a_watch_that_may_have_come_late_misses_nothing_by_itself(watch_s, api_s, said):
    seen = result([watch_s] * 100, [api_s] * 100)
    found = goal(seen, "pod start p99")
    assert (found["result"], found["hi"]) == (said, pytest.approx(watch_s))
    assert found["lo"] == pytest.approx(min(watch_s, api_s - 1))
    ramp = goal(seen, "pod ramp")
    assert (ramp["lo"], ramp["hi"]) == (pytest.approx(max(0.5, api_s - 1)), pytest.approx(watch_s + 0.5))
    bounds = {one.name: (one.provenance.lo, one.value, one.provenance.hi) for one in ramp_figure.figures(seen)}
    for name in ("ramp up", "ramp rate", "create to Ready p99, by watch", "up 0 to 100: ready"):
        lo, value, hi = bounds[name]
        assert lo <= value <= hi, name
        assert lo < hi, name


@pytest.mark.parametrize(("ready", "said"), [(100, "met"), (99, "met"), (98, "missed")])
def test_one_pod_of_a_hundred_may_not_be_ready_for_the_99th(ready, said):
    seen = result([2.0] * ready, [2.0] * ready)
    assert goal(seen, "pod start p99")["result"] == said
    assert goal(seen, "pod ramp")["result"] == ("met" if ready == 100 else "missed")


def test_an_objective_on_played_nodes_says_so():
    assert goal(result([2.0] * 100, [2.0] * 100), "pod ramp")["note"] == ramp_figure.PLAYED
    assert "note" not in goal(result([2.0] * 100, [2.0] * 100, played=False), "pod ramp")


def test_a_pod_that_is_no_longer_ready_does_not_count_as_ready():
    columns = Columns("r-", 2)
    for number in range(2):
        columns.take("ADDED", pod(f"r-00000{number}", PodScheduled=2, Ready=5), 10)
    unready = pod("r-000000", PodScheduled=2)
    unready.status.conditions.append(Condition("Ready", "False"))
    columns.take("MODIFIED", unready, 20)
    assert (columns.live(), columns.live("scheduled"), columns.ns["ready"][0]) == (1, 2, 10)
    columns.take("DELETED", unready, 30)
    assert columns.live() == 1
    columns.take("DELETED", pod("r-000001", PodScheduled=2, Ready=5), 40)
    assert (columns.live(), columns.live("seen")) == (0, 0)


def test_pods_that_went_while_nobody_watched_are_gone_by_the_next_list():
    columns = Columns("r-", 3)
    for number in range(3):
        columns.take("ADDED", pod(f"r-00000{number}", PodScheduled=2, Ready=5), 10)
    columns.reconcile(["r-000001"], 50)
    assert (columns.live(), columns.live("seen"), columns.count["gone"]) == (1, 1, 2)
    assert list(columns.ns["gone"]) == [50, 0, 50]
