"""How long a service was not good: the bounds hold the truth, whatever was not looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.probes.lost import lost_s
from protos.outage import Attempts, Code

MS = 1_000_000
SPANS = st.lists(st.tuples(st.integers(200, 4_000), st.integers(1, 3_000)), min_size=0, max_size=5)  # up, down: ms


def world(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Outages as (from, to), ms."""
    at, found = 500, []
    for up, down in spans:
        at += up
        found.append((at, at + down))
        at += down
    return found


@given(SPANS, st.integers(20, 300), st.data())
def test_the_bounds_hold_what_was_lost(spans, interval, data):
    """An attempt takes 2 ms of a service that is up, and is told at once of one that is down."""
    outages = world(spans)
    end = (outages[-1][1] if outages else 500) + 2_000
    due = list(range(0, end, interval))
    blind = set(data.draw(st.lists(st.sampled_from(due), max_size=10)))
    down = {at for at in due if any(lo <= at < hi for lo, hi in outages)}
    code = [Code.ERROR if at in blind else Code.BAD if at in down else Code.OK for at in due]
    stamps = [at * MS for at in due]
    attempts = Attempts(stamps, stamps, [at + 2 * MS for at in stamps], code, interval * MS)
    found = lost_s(attempts, (due[-1] + 2) * MS)
    if Code.OK not in code:
        assert found is None
        return
    lo_s, hi_s = found
    seen = [(lo, hi) for lo, hi in outages if any(lo <= at < hi and at not in blind for at in due)]
    assert 0 <= lo_s <= sum(hi - lo for lo, hi in outages) / 1000 + 1e-9
    assert hi_s >= sum(hi - lo for lo, hi in seen) / 1000 - 1e-9, "what an attempt saw is in it"


def test_what_nobody_looked_at_is_not_surely_lost():
    def attempts(codes: str) -> Attempts:
        table = {"o": Code.OK, "b": Code.BAD, "e": Code.ERROR}
        at = [k * 1_000 * MS for k in range(len(codes))]
        return Attempts(at, at, [one + MS for one in at], [table[one] for one in codes], 1_000 * MS)

    lo_s, hi_s = lost_s(attempts("oobbbboo"), 7_000 * MS)
    assert (round(lo_s, 2), round(hi_s, 2)) == (3.0, 5.0)
    lo_s, hi_s = lost_s(attempts("oobeeboo"), 7_000 * MS)
    assert (round(lo_s, 2), round(hi_s, 2)) == (0.0, 5.0)
    lo_s, hi_s = lost_s(attempts("oobbb"), 5_500 * MS)
    assert (round(lo_s, 2), round(hi_s, 2)) == (2.0, 4.5), "it is bad as we speak"
    assert lost_s(attempts("bbbb"), 4_000 * MS) is None, "a stream that never was good was not lost"
