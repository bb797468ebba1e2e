"""How long a service was not good, from the attempts of one probe, with bounds. Pure.

Invariant: what nobody looked at widens the bounds: the lower one leaves it out, the upper one counts it where a failure
stands on either side. An outage between two good attempts is not seen, as with any sampling.
"""

from __future__ import annotations

from protos.outage import FAILED, NO_DATA, Attempts, Span, healthy, outages
from protos.recovery import Code

_NS = 1_000_000_000


def lost_s(attempts: Attempts, until_ns: int) -> tuple[float, float] | None:
    """[lo, hi], seconds, of all outages until *until_ns*; None where the service was never seen to be good."""
    if Code.OK not in attempts.code:
        return None
    lo_ns = hi_ns = 0
    for span in outages(attempts, healthy(attempts, until_ns)):
        end_ns = span.outage.end_hi_ns
        hi_ns += max(until_ns if end_ns is None else end_ns, span.outage.start_lo_ns) - span.outage.start_lo_ns
        lo_ns += _surely_ns(attempts, span)
    return min(lo_ns, hi_ns) / _NS, hi_ns / _NS


def _surely_ns(attempts: Attempts, span: Span) -> int:
    """From failure to failure, as long as nothing stands between them of which there are no data."""
    total, begun_ns, last_ns = 0, None, 0
    for k in range(span.first, span.last + 1):
        if attempts.code[k] in NO_DATA or (begun_ns is not None and attempts.dropped(k)):
            total += max(0, last_ns - begun_ns) if begun_ns is not None else 0
            begun_ns = None
        if attempts.code[k] in FAILED:
            begun_ns = attempts.done_ns[k] if begun_ns is None else begun_ns  # it was bad by then
            last_ns = attempts.start_ns[k]
    return total + (max(0, last_ns - begun_ns) if begun_ns is not None else 0)
