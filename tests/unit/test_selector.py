from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.selector import WORDS, Candidate, Selector, count, parse, select
from protos.error import SpecError

PICKS = st.one_of(st.sampled_from(WORDS), st.integers(1, 40), st.floats(0.01, 1.0, allow_nan=False))
FLEETS = st.sets(st.integers(0, 10_000), min_size=1, max_size=40).map(
    lambda numbers: [Candidate(f"a{n}", {"role": "db", "n": str(n)}) for n in numbers]
)


@given(PICKS, FLEETS, st.integers())
def test_a_pick_is_sorted_within_the_fleet_and_repeatable(pick, fleet, seed):
    selector = Selector({"role": "db"}, pick)
    if isinstance(pick, int) and pick > len(fleet):
        with pytest.raises(SpecError, match="are asked for"):
            select(selector, fleet, seed=seed)
        return
    chosen = select(selector, fleet, seed=seed)
    assert chosen == sorted(set(chosen))
    assert 1 <= len(chosen) == count(pick, len(fleet)) <= len(fleet)
    assert set(chosen) <= {agent.id for agent in fleet}
    assert chosen == select(selector, list(reversed(fleet)), seed=seed)


@given(st.integers(1, 1000))
def test_minority_leaves_a_majority_and_majority_is_one(total):
    assert 2 * count("majority", total) > total
    assert total < 3 or 2 * (total - count("minority", total)) > total
    assert count("minority", total) >= 1


@given(st.integers(1, 1000), st.integers(1, 100))
def test_a_share_rounds_down_but_to_one_at_least(total, percent):
    assert count(percent / 100, total) == max(1, total * percent // 100)


def test_the_selectors_own_seed_beats_the_runs():
    fleet = [Candidate(f"a{n}", {}) for n in range(50)]
    own = Selector({}, 3, seed=7)
    assert select(own, fleet, seed=1) == select(own, fleet, seed=2)
    assert select(Selector({}, 3), fleet, seed=1) != select(Selector({}, 3), fleet, seed=2)


@pytest.mark.parametrize(
    ("document", "pick"),
    [({}, "all"), ({"pick": "30%"}, 0.3), ({"pick": "3"}, 3), ({"pick": 2}, 2), ({"pick": "one"}, "one")],
)
def test_parse(document, pick):
    assert parse(document).pick == pick


@pytest.mark.parametrize("pick", [0, -1, "some", "0%", "101%", True, 1.5, [], "٣"])
def test_parse_refuses_what_is_no_pick(pick):
    with pytest.raises(SpecError, match="is not a pick"):
        parse({"pick": pick})


def test_parse_finds_all_problems_at_once():
    with pytest.raises(SpecError) as caught:
        parse({"labels": 3, "pick": "x", "seed": "y", "count": 4})
    assert len(caught.value.problems) == 4


def test_nobody_fits_names_what_was_asked_and_what_exists():
    with pytest.raises(SpecError, match=r"role=web.*labels that exist: role=db") as caught:
        select(Selector({"role": "web"}, "one"), [Candidate("a", {"role": "db"})], seed=0)
    assert caught.value.exit == 2


def test_agents_that_cannot_are_left_out_with_their_reasons():
    fleet = [Candidate("a", {}, "needs nft"), Candidate("b", {})]
    assert select(Selector({}, "all"), fleet, seed=0) == ["b"]
    with pytest.raises(SpecError, match="a: needs nft"):
        select(Selector({}, "all"), fleet[:1], seed=0, kind="network.partition")


def test_an_empty_fleet_says_so():
    with pytest.raises(SpecError, match="no agent is connected"):
        select(Selector({}, "all"), [], seed=0)
