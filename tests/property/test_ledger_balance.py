"""The balance of a ledger against a model that plays a service."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from protos.ledger import Written, compare, ranges, unread

FATES = st.lists(st.sampled_from(["kept", "lost", "silent", "silent kept", "refused", "twice"]), max_size=60)


def played(fates: list[str]) -> tuple[Written, list[int]]:
    sent = [10 * (number + 1) for number in range(len(fates))]
    acknowledged = [at + 5 if fate in ("kept", "lost", "twice") else 0 for at, fate in zip(sent, fates, strict=True)]
    refused = [number for number, fate in enumerate(fates) if fate == "refused"]
    present = [number for number, fate in enumerate(fates) if fate in ("kept", "silent kept", "twice")]
    present += [number for number, fate in enumerate(fates) if fate == "twice"]
    return Written(sent, acknowledged, refused), present


@given(FATES)
def test_every_fate_is_counted_once(fates: list[str]) -> None:
    found = compare(*played(fates))
    assert found.lost == fates.count("lost")
    assert found.duplicated == fates.count("twice")
    assert found.unacknowledged_present == fates.count("silent kept")
    assert found.refused == fates.count("refused")
    assert found.unknown == fates.count("silent") + fates.count("silent kept")
    assert found.acknowledged + found.refused + found.unknown == found.sent == len(fates)
    assert sum(last - first + 1 for first, last in found.lost_ranges) == found.lost
    assert found.out_of_order == 0, "a copy behind is no disorder"


@given(FATES, st.data())
def test_disorder_is_what_was_acknowledged_and_stands_behind_what_was_sent_later(
    fates: list[str], data: st.DataObject
) -> None:
    written, present = played([fate for fate in fates if fate != "twice"])
    mixed = data.draw(st.permutations(present))
    wanted = sum(
        any(written.acknowledged_ns[number] < written.sent_ns[before] for before in mixed[:at])
        for at, number in enumerate(mixed)
        if written.acknowledged_ns[number]
    )
    assert compare(written, mixed).out_of_order == wanted


@given(st.sets(st.integers(0, 50)))
def test_ranges_hold_exactly_the_numbers(numbers: set[int]) -> None:
    found = ranges(sorted(numbers))
    assert {number for first, last in found for number in range(first, last + 1)} == numbers
    assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(found))


@given(FATES)
def test_what_was_not_read_back_claims_no_loss_and_is_not_complete(fates: list[str]) -> None:
    found = unread(played(fates)[0], "away")
    assert (found.lost, found.present, found.complete, found.note) == (0, 0, False, "away")
