"""The spec of a ramp, and what is wrong with one."""

from __future__ import annotations

import math
import re
from typing import Any, Final, Literal

import msgspec

from protos.error import Problem, SpecError

PLAYED: Final = "blackstart.dev/played"  # label and taint of nodes that KWOK plays
RAMP: Final = "blackstart.dev/ramp"  # label of everything that a ramp makes: which ramp
NOTHING: Final = "nothing.invalid/none"  # image of pods that only played nodes take
FOREIGN: Final = "kept, since it holds"  # of a namespace in a removal: others use it
RUN: Final = "blackstart.dev/run"  # and for which run
PODS_MAX: Final = 100_000
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_QUANTITY: Final = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_COMPONENTS: Final = ("scheduler", "controllers")


class RampSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`spec` of the workload, field by field."""

    shape: Literal["linear", "exponential", "burst"] = "linear"
    start: int = msgspec.field(default=10, name="from")  # pods that are there before the ramp
    to: int = 10_000
    stages: int = 5  # up, and again down; a burst has one
    duration_s: float = 0.0  # over which creation is spread; 0: as fast as it goes
    down: bool = True
    mode: Literal["pods", "deployment", "hpa"] = "pods"  # made by this client, by controllers, by an autoscaler
    namespace: str = "scale-ramp"
    cpu: str = "100m"
    memory: str = "128Mi"
    gpus: int = 0  # nvidia.com/gpu of each pod
    gang: int = 0  # pods that are of use only together; 0: each by itself
    qps: float = 0.0  # limit of this client's requests a second; 0: none
    creators: int = 1  # processes that make requests
    threads: int = 8  # of each
    metric: str = ""  # hpa: external metric, whose value over 1 a pod is the number of pods wanted
    image: str = NOTHING
    node_selector: dict[str, str] = msgspec.field(default_factory=lambda: {PLAYED: "true"})
    timeout_s: float = 900.0  # of everything, removal too
    removal_s: float = 120.0  # of which for the removal
    stall_s: float = 60.0  # without any progress: a stage is over
    metrics: dict[str, str] = {}  # https://… of scheduler and controllers, by a certificate of the cluster's authority
    processes: dict[str, int] = {}  # of the control plane, by name, where they run on this node: pids
    ramp_max_s: float = 180.0
    api_p99_max_s: float = 1.0
    start_p99_max_s: float = 5.0

    @property
    def played(self) -> bool:
        """Whether no pod of it can come to a node that is not played."""
        return self.node_selector.get(PLAYED) == "true"


def parse(document: dict[str, Any]) -> RampSpec:
    """SpecError with everything that is wrong with it."""
    try:
        spec = msgspec.convert(document, RampSpec)
    except msgspec.ValidationError as error:
        raise SpecError(Problem("spec of workload kube.ramp", str(error))) from error
    if problems := [Problem("spec of workload kube.ramp", text) for text in _wrong(spec)]:
        raise SpecError(*problems)
    return spec


def _wrong(spec: RampSpec) -> list[str]:
    found = [*_wrong_numbers(spec)]
    if not 0 <= spec.start <= spec.to <= PODS_MAX or spec.to == 0:
        found.append(f"from {spec.start} to {spec.to}: write 0 <= from <= to, and to in 1..{PODS_MAX}")
    if spec.shape == "exponential" and spec.start == 0:
        found.append("an exponential ramp starts from 1 pod at least")
    if not _NAME.fullmatch(spec.namespace):
        found.append(f"namespace {spec.namespace!r} is no name of Kubernetes")
    found += [f"{name}: {value!r} is no quantity" for name, value in (("cpu", spec.cpu), ("memory", spec.memory))
              if not _QUANTITY.fullmatch(value)]  # fmt: skip
    if spec.mode == "hpa" and not spec.metric:
        found.append("mode hpa needs the name of an external metric")
    if spec.mode == "hpa" and spec.start == 0:
        found.append("an autoscaler starts from 1 pod at least")
    if spec.gang and (spec.mode != "pods" or spec.to % spec.gang or spec.start % spec.gang):
        found.append(f"gang {spec.gang}: mode pods only, and from and to must be multiples of it")
    known = ", ".join(_COMPONENTS)
    found += [f"metrics: {name!r} is none of {known}" for name in spec.metrics if name not in _COMPONENTS]
    found += [f"metrics: {url!r} does not begin with https://" for url in spec.metrics.values()
              if not url.startswith("https://")]  # fmt: skip
    return found


def _wrong_numbers(spec: RampSpec) -> list[str]:
    """Those outside of their range."""
    ranges: tuple[tuple[str, float, float], ...] = (
        ("stages", 1, 100), ("duration_s", 0, 3600), ("gpus", 0, 64), ("gang", 0, 1000), ("qps", 0, 100_000),
        ("creators", 1, 16), ("threads", 1, 64), ("timeout_s", 10, 3600), ("removal_s", 5, 1800),
        ("stall_s", 1, 600), ("ramp_max_s", 0, 3600), ("api_p99_max_s", 0, 60), ("start_p99_max_s", 0, 600),
    )  # fmt: skip
    values = [(name, float(getattr(spec, name)), least, most) for name, least, most in ranges]
    found = [f"{name}: {value:g} is not in {least:g}..{most:g}" for name, value, least, most in values
             if not (math.isfinite(value) and least <= value <= most)]  # fmt: skip
    if not found and spec.removal_s >= spec.timeout_s:
        found.append(f"removal_s {spec.removal_s:g} leaves nothing of timeout_s {spec.timeout_s:g} for the ramp")
    return found
