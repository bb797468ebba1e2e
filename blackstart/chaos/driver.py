"""The driver functions: each asks the controller to do it, and waits.

Invariant: a function either returns what the controller answered or raises `ActivityFailed` with one sentence; what a
hypothesis compares is a plain float.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from chaoslib.exceptions import ActivityFailed

from blackstart.chaos import session
from protos.error import BlackstartError

logger: Final = logging.getLogger("chaostoolkit")
Json = dict[str, Any]


def start_probe(
    name: str,
    kind: str,
    targets: Json,
    spec: Json,
    interval_ms: float = 20,
    timeout_ms: float = 1000,
    stable_s: float = 3.0,
    p99_max_ms: float | None = None,
) -> Json:
    """Starts the probe *name* on every agent picked; it runs until the run ends.

    Args:
        name: by which `observe` and `recovery` know it.
        kind: one of those that `blackstart-agent doctor` lists, http for example.
        targets: where from: `{labels: {role: db}, pick: one | all | minority | majority | 3 | "30%", seed: 7}`.
        spec: the kind's own fields, `{url: ...}` for http.
        interval_ms: from one due time to the next.
        timeout_ms: after which an attempt has failed.
        stable_s: time without failure after which the service counts as recovered.
        p99_max_ms: latency that a stable window must keep, too; None: any.
    """
    arguments: Json = {
        "name": name,
        "kind": kind,
        "targets": targets,
        "spec": spec,
        "interval_ms": _number("interval_ms", interval_ms),
        "timeout_ms": _number("timeout_ms", timeout_ms),
        "stable_s": _number("stable_s", stable_s),
    }
    if p99_max_ms is not None:
        arguments["p99_max_ms"] = _number("p99_max_ms", p99_max_ms)
    answer = _invoke("start_probe", arguments)
    session.current().probes.add(name)
    return dict(answer or {})


def observe(probe: str, measure: str = "success_fraction", window_s: float = 5.0) -> float:
    """What *probe* measured over the last *window_s* seconds, the worst over its agents.

    *measure* is success_fraction, p50_ms, p99_ms, max_ms or rate_s.
    """
    return float(_invoke("observe", {"probe": probe, "measure": measure, "window_s": _number("window_s", window_s)}))


def steady(
    name: str,
    kind: str,
    targets: Json,
    spec: Json,
    measure: str = "success_fraction",
    window_s: float = 2.0,
    interval_ms: float = 20,
    timeout_ms: float = 1000,
    stable_s: float = 3.0,
    p99_max_ms: float | None = None,
) -> float:
    """`observe` for hypotheses, which come before the method: starts the probe the first time, and fills the window.

    Arguments as of `start_probe` and `observe`.
    """
    if name not in _session().probes:
        start_probe(name, kind, targets, spec, interval_ms, timeout_ms, stable_s, p99_max_ms)
        time.sleep(_number("window_s", window_s))
    return observe(name, measure, window_s)


def inject(
    fault: str,
    targets: Json,
    spec: Json | None = None,
    duration_s: float = 300,
    on_lost_controller: str = "revert",
    name: str | None = None,
    follow: bool = False,
) -> Json:
    """Injects *fault* on every agent picked; returns once the receipts are in.

    Args:
        fault: kind, for example process.kill.
        targets: as of `start_probe`.
        spec: the fault's own fields.
        duration_s: the agent ends the fault by then, whatever happens to the rest.
        on_lost_controller: revert or hold.
        name: by which `revert` and `recovery` know it; the fault's kind if left out.
        follow: a target that dies and comes back (a restarted worker) is joined to the fault again, until its end.

    Returns:
        `{name, fault, effects, confirmed}`.
    """
    arguments = {
        "fault": fault,
        "targets": targets,
        "spec": spec or {},
        "duration_s": _number("duration_s", duration_s),
        "on_lost_controller": on_lost_controller,
        "name": name,
        "follow": _flag("follow", follow),
    }
    return dict(_invoke("inject", arguments))


def revert(name: str | None = None) -> Json:
    """Reverts the injection *name*, or all of this run; what has ended already is left alone."""
    return dict(_invoke("revert", {"name": name}))


def recovery(probe: str, after: str | None = None, objective: str | None = None, wait_s: float = 120) -> Json:
    """The recovery time that a probe saw.

    Args:
        probe: name given to `start_probe` or `steady`.
        after: name of the injection from which the time counts; the last one if left out.
        objective: entry of the profile whose `rto_s` it is set beside.
        wait_s: how long to wait for the service to stay good.

    Returns:
        `{recovered, value_s, lo_s, hi_s, outages, flaps, disturbance_s, attempts, note, probe, agent_id, objective,
        rto_s, result}`.
    """
    arguments = {"probe": probe, "after": after, "objective": objective, "wait_s": _number("wait_s", wait_s)}
    return dict(_invoke("recovery", arguments))


def data_loss(probe: str, objective: str | None = None, wait_s: float = 60) -> Json:
    """What became of the records that a probe with `mode: ledger` wrote, read back now.

    Args:
        probe: name given to `start_probe` or `steady`.
        objective: entry of the profile whose `rpo_s` the loss is set beside; without one no loss is within it.
        wait_s: how long to try to read back.

    Returns:
        `{sent, acknowledged, lost, lost_ranges, lost_s, duplicated, unacknowledged_present, out_of_order, unknown,
        refused, members, complete, note, probe, agent_id, objective, rpo_s, result}`, the worst over the agents.
    """
    arguments = {"probe": probe, "objective": objective, "wait_s": _number("wait_s", wait_s)}
    return dict(_invoke("data_loss", arguments))


def capacity(probe: str, after: str | None = None, objective: str | None = None, skip_s: float = 0) -> Json:
    """Good attempts a second while an injection was in force, over those in the 30 s before it.

    Args:
        probe: name given to `start_probe` or `steady`; one of reads or writes that every client sends.
        after: name of the injection; the last one if left out.
        objective: entry of the profile with `at_least_fraction`, or `at_most_fraction` where a service has to refuse.
        skip_s: of the fault's first seconds, left out.

    Returns:
        `{kind, value, lo, hi, good, attempts, span_s, note, probe, agent_id, after, objective, result}`.
    """
    arguments = {"probe": probe, "after": after, "objective": objective, "skip_s": _number("skip_s", skip_s)}
    return dict(_invoke("capacity", arguments))


def uptime(probe: str, objective: str | None = None, period: str = "month") -> Json:
    """Availability since *probe* began, with its Wilson interval at 95 %, and what its outages spend of a month.

    Args:
        probe: name given to `start_probe` or `steady`.
        objective: entry of the profile with `at_least_fraction`.
        period: month: the outages of this run must fit into a month's budget; run: the interval must lie above it.

    Returns:
        As `capacity`, with `outage_s` as [lo, hi].
    """
    return dict(_invoke("uptime", {"probe": probe, "objective": objective, "period": period}))


def phases(probe: str, events: list[str], order: list[str], after: str | None = None) -> Json:
    """What a recovery consists of, as the services' own logs or Kubernetes tell it; to be asked after `recovery`.

    Args:
        probe: the one whose recovery was measured.
        events: names of probes of kind log or kube.
        order: names of their marks, such as detect, decide, act, serve; what is left until the probe is good is client.
        after: name of the injection; the last one if left out.

    Returns:
        `{steps: [{name, at_s, lo_s, hi_s, took_s, agent_id, path, text}], missing, note, probe, agent_id, after}`.
    """
    arguments = {"probe": probe, "events": list(events), "order": list(order), "after": after}
    return dict(_invoke("phases", arguments))


def cascade(probes: list[str], after: str | None = None, order: list[Any] | None = None) -> Json:
    """In which order services failed after an injection; to be asked after the `recovery` of each.

    Args:
        probes: names, of at least two.
        after: name of the injection; the last one if left out.
        order: what is expected: names, each of which must have failed before the next one, and lists of names that may
            fail in any order among themselves; nothing if left out.

    Returns:
        `{after, steps: [{probe, agent_id, failed, lo_s, hi_s, end_lo_s, end_hi_s}], order, result, note}`; seconds from
        the injection.
    """
    return dict(_invoke("cascade", {"probes": probes, "after": after, "order": order}))


def run_workload(kind: str, targets: Json, spec: Json) -> Json:
    """Runs the workload *kind* on every agent picked; returns its figures."""
    return dict(_invoke("run_workload", {"kind": kind, "targets": targets, "spec": spec}))


def _invoke(function: str, arguments: Json) -> Any:
    current = _session()
    try:
        return current.client.invoke(current.run_id, function, arguments, progress=logger.info)
    except BlackstartError as error:
        raise ActivityFailed(f"{function}: {error}") from error


def _session() -> session.Session:
    try:
        return session.current()
    except BlackstartError as error:
        raise ActivityFailed(str(error)) from error


def _number(argument: str, value: object) -> float:
    """Variables given on a command line arrive as text."""
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError
        return float(value)
    except (TypeError, ValueError) as error:
        raise ActivityFailed(f"{argument} must be a number, not {value!r}") from error


def _flag(argument: str, value: object) -> bool:
    """As `_number`, for true and false."""
    word = str(value).lower()
    if word not in ("true", "false"):
        raise ActivityFailed(f"{argument} must be true or false, not {value!r}")
    return word == "true"
