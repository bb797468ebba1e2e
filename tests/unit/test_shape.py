"""Who is cut off from whom, for every shape: properties over any fleet, and each definition on small ones."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.run import shape
from controller.selector import Candidate, Selector
from protos.catalogue import APART, BY_CONTROLLER, SHAPED, SHAPES, catalogue
from protos.error import SpecError

NAMES = st.sets(st.integers(0, 999), min_size=4, max_size=21).map(lambda found: [f"n{n:03}" for n in found])


def sees(nodes, cut):
    """By node, whom it still reaches, itself too."""
    gone = {frozenset(pair) for pair in cut}
    return {one: {other for other in nodes if frozenset((one, other)) not in gone} for one in nodes}


def groups(nodes, cut):
    return {frozenset(seen) for seen in sees(nodes, cut).values()}


def apart_of(name, nodes):
    return {"isolate": nodes[:1], "primaries": nodes[:2], "bridge": nodes[2:3]}.get(name, [])


def node(name, *addresses, **labels):
    return shape.Node(name, labels, addresses)


FIVE = [node(f"n{k}", f"10.0.0.{k}", role="primary" if k < 3 else "replica") for k in range(1, 6)]


def picked(spec, nodes, seed):
    return shape.picked(shape.apart_selector(spec), [Candidate(one.id, one.labels) for one in nodes], seed=seed)


def resolve(spec, nodes=FIVE, seed=3):
    apart = picked(spec, nodes, seed)
    return {agent: own["peers"] for agent, own in shape.resolve(spec, nodes, apart=apart, seed=seed).items()}


@given(st.sampled_from(sorted(SHAPES)), NAMES, st.integers())
def test_no_shape_is_empty_or_cuts_a_node_from_itself_and_the_seed_decides(name, nodes, seed):
    cut = shape.pairs(name, nodes, apart_of(name, nodes), seed)
    assert cut
    assert all(one != other for one, other in cut)
    assert len({frozenset(pair) for pair in cut}) == len(cut)
    assert cut == shape.pairs(name, nodes[::-1], apart_of(name, nodes), seed)


@given(st.sampled_from(["halves", "random_halves"]), NAMES, st.integers())
def test_halves_are_two_that_differ_by_one_at_most(name, nodes, seed):
    small, large = sorted(map(len, groups(nodes, shape.pairs(name, nodes, [], seed))))
    assert small + large == len(nodes)
    assert large - small <= 1


@given(NAMES, st.integers())
def test_a_minority_third_is_one_group_of_fewer_than_a_third_but_one(nodes, seed):
    small, large = sorted(map(len, groups(nodes, shape.pairs("minority_third", nodes, [], seed))))
    assert small == max(1, (len(nodes) - 1) // 3)
    assert small + large == len(nodes)


@given(NAMES, st.integers())
def test_in_a_majorities_ring_each_sees_a_majority_and_no_two_the_same_one(nodes, seed):
    seen = sees(nodes, shape.pairs("majorities_ring", nodes, [], seed)).values()
    assert all(2 * len(one) > len(nodes) for one in seen)
    assert len({frozenset(one) for one in seen}) == len(nodes)
    if len(nodes) % 4 == 1:  # where a ring can have them exact
        assert {len(one) for one in seen} == {len(nodes) // 2 + 1}


@given(NAMES, st.integers())
def test_a_bridge_is_seen_by_all_and_its_halves_see_nothing_of_each_other(nodes, seed):
    middle = nodes[2]
    seen = sees(nodes, shape.pairs("bridge", nodes, [middle], seed))
    assert seen[middle] == set(nodes)
    sides = {frozenset(one) for who, one in seen.items() if who != middle}
    assert [len(one & other) for one, other in combinations(sides, 2)] == [1]


@given(NAMES)
def test_isolated_stay_together_and_primaries_are_each_alone(nodes):
    two = nodes[:2]
    assert groups(nodes, shape.pairs("isolate", nodes, two, 0)) == {frozenset(two), frozenset(nodes[2:])}
    alone = {frozenset([one]) for one in two}
    assert groups(nodes, shape.pairs("primaries", nodes, two, 0)) == {*alone, frozenset(nodes[2:])}


@given(NAMES)
def test_complete_leaves_nobody_anybody(nodes):
    assert groups(nodes, shape.pairs("complete", nodes, [], 0)) == {frozenset([one]) for one in nodes}


def test_the_smaller_side_acts():
    others = ["10.0.0.3", "10.0.0.4", "10.0.0.5"]
    assert resolve({"shape": "halves"}) == {"n1": others, "n2": others}
    assert len(resolve({"shape": "minority_third"})) == len(resolve({"shape": "isolate"})) == 1
    assert len(resolve({"shape": "bridge"})) == 2
    assert list(resolve({"shape": "complete"})) == ["n1", "n2", "n3", "n4"]


def test_the_rest_of_the_spec_stays_and_shape_and_apart_go():
    spec = {"shape": "isolate", "apart": {"labels": {"role": "replica"}, "pick": 1}, "direction": "out", "ports": [5]}
    apart = picked(spec, FIVE, 1)
    (only,) = apart
    found = shape.resolve(spec, FIVE, apart=apart, seed=1)
    others = sorted(address for one in FIVE if one.id != only for address in one.addresses)
    assert found == {only: {"direction": "out", "ports": [5], "peers": others}}


def test_who_is_apart():
    assert picked({"shape": "halves"}, FIVE, 1) == []
    drawn = {picked({"shape": "isolate"}, FIVE, seed)[0] for seed in range(40)}
    assert drawn == {one.id for one in FIVE}
    primaries = {"shape": "primaries", "apart": {"labels": {"role": "primary"}}}
    assert shape.apart_selector(primaries) == Selector({"role": "primary"}, "all")
    replicas = ["10.0.0.3", "10.0.0.4", "10.0.0.5"]
    assert resolve(primaries) == {"n1": ["10.0.0.2", *replicas], "n2": replicas}


@pytest.mark.parametrize(
    ("spec", "nodes", "said"),
    [
        ({"shape": "haves"}, FIVE, r"spec\.shape: 'haves' is not known \(did you mean halves"),
        ({"shape": "halves", "apart": {"pick": 1}}, FIVE, r"spec\.apart: halves sets nobody apart"),
        ({"shape": "primaries"}, FIVE, r"spec\.apart: is missing: primaries needs it"),
        ({"shape": "isolate", "apart": {"pick": 0}}, FIVE, r"spec\.apart\.pick: 0 is not a pick"),
        ({"shape": "isolate", "apart": {"labels": {"role": "x"}}}, FIVE, r"spec\.apart\.labels: no connected agent"),
        ({"shape": "isolate", "apart": {"pick": "all"}}, FIVE, r"isolate cuts nothing: all 5 targets are on one side"),
        ({"shape": "halves"}, FIVE[:1], "1 agent: a partition needs two"),
        ({"shape": "bridge"}, FIVE[:2], "a bridge needs three"),
        ({"shape": "majorities_ring"}, FIVE[:3], "a majorities ring needs 4"),
        ({"shape": "halves"}, [*FIVE, node("x")], "x has no known address .*address=10.0.0.5"),
        ({"shape": "halves"}, [*FIVE, node("x", "10.0.0.3")], "n3 and x have one address, 10.0.0.3"),
        ({"shape": "halves"}, [*FIVE, node("x", "127.0.0.1")], "x has the address '127.0.0.1': a loopback"),
        ({"shape": "halves"}, [*FIVE, node("x", "db.local")], "'db.local': not an IP address"),
    ],
)
def test_what_does_not_fit_is_said(spec, nodes, said):
    with pytest.raises(SpecError, match=said):
        resolve(spec, nodes)


def test_a_label_has_several_addresses_and_beats_where_the_stream_comes_from():
    assert shape.addresses("10.0.0.1 fd00::1", "10.9.9.9") == ("10.0.0.1", "fd00::1")
    assert shape.addresses("", "10.9.9.9") == ("10.9.9.9",)
    assert shape.addresses("", "") == ()
    two = [node("a", "10.0.0.1", "fd00::1"), node("b", "10.0.0.2")]
    assert resolve({"shape": "halves"}, two) == {"a": ["10.0.0.2"]}
    assert resolve({"shape": "halves"}, two[::-1]) == resolve({"shape": "halves"}, two)


def test_the_catalogue_names_the_shapes_that_there_are():
    with pytest.raises(SpecError) as caught:
        shape.apart_selector({"shape": "no such"})
    assert all(name in str(caught.value) for name in SHAPES)
    assert set(APART) <= set(SHAPES)
    assert set(SHAPED) == set(BY_CONTROLLER)
    for kind, name in product(SHAPED, ("peers", "direction")):
        assert name in str(catalogue()[kind]["schema"])
