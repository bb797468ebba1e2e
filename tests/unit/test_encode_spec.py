"""The encode workload's spec, and when its videos come."""

from __future__ import annotations

import math
import re

import pytest

from agent.workloads.encode.arrivals import instants, levels
from agent.workloads.encode.spec import Open, parse
from protos.error import SpecError

RATE = {"rates": [1], "duration_s": 10}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"inputs": []}, "inputs: name at least one"),
        ({"inputs": [{"path": "/a", "pattern": "noise"}]}, "inputs[0]: path '/a' or pattern 'noise', not both"),
        ({"inputs": [{"pattern": "static"}]}, "$.inputs[0].pattern"),
        ({"inputs": [{"pattern": "noise", "width": 0}]}, "$.inputs[0].width"),
        ({"renditions": []}, "renditions: name at least one"),
        ({"renditions": [{"height": 96}]}, "renditions[0]: exactly one of crf and kbps"),
        ({"renditions": [{"height": 96, "crf": 20, "kbps": 9}]}, "renditions[0]: exactly one of crf and kbps"),
        ({"renditions": [{"height": 97, "crf": 20}]}, "height 97 is odd"),
        ({"renditions": [{"height": 96, "crf": 20}, {"height": 96, "crf": 30}]}, "each height once, not [96, 96]"),
        ({"renditions": [{"height": 96, "crf": 20, "codec": "../x"}]}, "$.renditions[0].codec"),
        ({"gop_s": 3, "segment_s": 4}, "segment_s 4 is no multiple of gop_s 3"),
        ({"gop_s": 4, "segment_s": 2}, "segment_s 2 is no multiple of gop_s 4"),
        ({"closed": {"jobs": [1]}, "open": RATE}, "closed or open, not both"),
        ({"closed": {"jobs": []}}, "closed.jobs: at least one"),
        ({"closed": {"jobs": [0]}}, "$.closed.jobs[0]"),
        ({"open": {"rates": []}}, "open.rates: at least one rate"),
        ({"open": {"rates": [900], "duration_s": 900}}, "810000 videos are more than 100000"),
        ({"open": {"rates": [1], "duration_s": 4000}}, "do not fit into timeout_s 3600"),
        ({"open": RATE | {"shape": "burst", "peak": 10}}, "open.peak"),
        ({"job_timeout_s": 4000}, "job_timeout_s 4000 is longer than timeout_s 3600"),
        ({"no_such": 1}, "unknown field"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_spec_is_said(document, told):
    with pytest.raises(SpecError, match=re.escape(told)):
        parse(document)


def test_the_default_is_the_reference_clip_to_four_rungs():
    spec = parse({})
    assert [one.height for one in spec.renditions] == [1080, 720, 480, 360]
    assert (spec.inputs[0].path, spec.inputs[0].pattern) == ("", "")


@pytest.mark.parametrize("shape", ["constant", "ramp", "day", "burst"])
@pytest.mark.parametrize("peak", [1.5, 2.5, 9.0])
def test_a_shape_moves_the_videos_and_not_their_number(shape, peak):
    even = instants(Open(rates=(10.0,), duration_s=100.0, shape=shape, peak=peak, random=False), 10.0)
    assert len(even) == 1000
    assert even == sorted(even)
    assert 0 <= even[0] <= even[-1] <= 100
    counts = [sum(1 for at in even if low <= at < low + 1) for low in range(100)]
    highest = {"constant": 10, "ramp": 20}.get(shape, 10 * peak)
    assert max(counts) == pytest.approx(highest, abs=1)


def test_random_arrivals_are_poisson_and_the_same_for_the_same_seed():
    asked = Open(rates=(50.0, 50.0), duration_s=200.0)
    (_, first), (_, second) = levels(asked)
    assert first == instants(asked, 50.0, 0) != second
    gaps = [later - earlier for earlier, later in zip([0.0, *first], first, strict=False)]
    mean = sum(gaps) / len(gaps)
    assert len(first) == pytest.approx(10_000, abs=5 * math.sqrt(10_000))
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert spread / mean == pytest.approx(1.0, abs=0.05), "as exponential gaps have it"
