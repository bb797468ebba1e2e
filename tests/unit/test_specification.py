"""Specs against the catalogue: what the agent would refuse is found before a start; variables are no problem."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.faults.registry import all_faults
from protos import catalogue
from protos.error import SpecError
from protos.specification import check_spec


def told(kind, spec):
    return [str(problem) for problem in check_spec(kind, spec)]


@pytest.mark.parametrize("kind", sorted(catalogue.catalogue()))
def test_every_example_of_the_catalogue_fits_its_schema(kind):
    assert told(kind, catalogue.entry(kind)["page"]["example"]) == []


@pytest.mark.parametrize("kind", sorted(catalogue.catalogue()))
def test_every_field_is_described(kind):
    bare = [field.name for field in catalogue.fields(kind) if not field.description or not field.type]
    assert not bare


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("resource.cpu", {"load": 1}, "spec.load: resource.cpu has no such field (did you mean load_fraction?)"),
        ("resource.cpu", {"load_fraction": 0}, "spec.load_fraction: 0 is not above 0 (it takes number > 0, ≤ 1)"),
        ("resource.cpu", {"load_fraction": 1.5}, "spec.load_fraction: 1.5 is above 1, the most"),
        ("resource.cpu", {"workers": -1}, "spec.workers: -1 is below 0, the least"),
        ("resource.cpu", {"workers": "two"}, "spec.workers: 'two' is not a whole number"),
        ("resource.cpu", {"workers": True}, "spec.workers: True is not a whole number"),
        ("resource.cpu", [], "spec: [] is not a mapping (it takes load_fraction, workers"),
        ("process.kill", {"signal": "KIL"}, "spec.signal: 'KIL' is not known here (did you mean KILL"),
        ("network.partition", {"ports": [1, 70000]}, "spec.ports[1]: 70000 is above 65535"),
        ("network.partition", {"network_of": {"pdi": 3}}, "spec.network_of.pdi: network.partition has no such field"),
        ("network.partition", {"network_of": 3}, "spec.network_of: 3 is not a mapping or null"),
        ("network.partition", {"shape": "haves"}, "spec.shape: 'haves' is not known here (did you mean halves"),
        ("network.partition", {"shape": "isolate", "peers": ["10.0.0.1"]}, "spec.shape: stands beside peers"),
        ("network.delay", {"apart": {"pick": 1}, "delay_ms": 5}, "spec.apart: stands without a shape"),
        ("network.loss", {"shape": "isolate", "apart": {"pik": 1}, "loss_fraction": 0.1}, "spec.apart.pik: network"),
        ("network.partition", {"shape": "isolate", "apart": {"pick": []}}, "spec.apart.pick: [] is not a text or a"),
    ],
)
def test_each_problem_says_where_what_and_the_remedy(kind, spec, said):
    found = told(kind, spec)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_all_problems_at_once():
    assert (
        len(told("network.partition", {"peer": [], "direction": "up", "ports": [0], "network_of": {"pid": "x"}})) == 4
    )


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("resource.cpu", "${spec}"),
        ("resource.cpu", {"load_fraction": "${load}", "workers": "${w}"}),
        ("process.kill", {"signal": "${signal}", "pid": "${pid}"}),
        ("network.partition", {"peers": ["${peer}", "10.0.0.${n}"], "ports": ["${port}"]}),
        ("network.partition", {"network_of": {"pid": "${pid}", "tree": "${tree}"}, "shape": "${x}"}),
        ("network.partition", {"network_of": "${who}"}),
        ("resource.cpu", None),
        ("no.such.kind", {"x": 1}),
    ],
)
def test_variables_and_unknown_kinds_are_not_judged(kind, spec):
    assert told(kind, spec) == []


def test_beside_a_variable_what_is_wrong_is_still_found():
    (found,) = told("network.partition", {"network_of": {"pid": "${pid}", "tree": 3}})
    assert found.startswith("spec.network_of.tree: 3 is not true or false")


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.floats(-1, 3), st.text(max_size=5), st.just([]))


@given(st.data())
def test_what_is_found_is_what_the_agent_would_refuse(data):
    """Neither side is laxer than the other, but for whole floats, which only JSON Schema takes for integers."""
    kind = data.draw(st.sampled_from(sorted(catalogue.catalogue())))
    names = [field.name for field in catalogue.fields(kind) if "." not in field.name]
    drawn = data.draw(st.dictionaries(st.sampled_from([*names, "nonsense"]), VALUES, max_size=3))
    spec = {k: v for k, v in drawn.items() if k not in catalogue.BY_CONTROLLER.get(kind, {})}
    try:
        msgspec.convert(spec, all_faults()[kind].spec)
        refused = False
    except msgspec.ValidationError:
        refused = True
    if not any(isinstance(value, float) and value.is_integer() for value in spec.values()):
        assert bool(told(kind, spec)) == refused


def test_near_matches():
    with pytest.raises(SpecError, match=r"there is no kind 'process\.kil'.*did you mean process\.kill"):
        catalogue.entry("process.kil")
    assert "network.partition" in catalogue.suggestion("partition", catalogue.catalogue())
    assert catalogue.suggestion("zzz", ["a", "b"]) == "known are: a, b"
