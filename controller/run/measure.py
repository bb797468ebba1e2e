"""What a measured recovery means beside its objective, and on which clock it is asked for. Pure.

Invariant: bounds only ever widen when they cross from one clock to another; an answer that the bounds do not
decide is inconclusive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from protos.error import ProbeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.fleet import Translation

Json = dict[str, Any]
SEVERITY: Final = {"met": 0, "not tested": 1, "inconclusive": 2, "missed": 3}

END_NS: Final = 500_000_000  # an effect is known to be over so long after it is, at most


@dataclass(frozen=True, slots=True)
class Instant:
    """When an injection took hold and, where it is over, when it was reverted; on the probing agent's clock."""

    lo_ns: int
    hi_ns: int
    reverted_ns: int | None


def instant(effects: Iterable[Json], translations: Mapping[str, Translation | None]) -> Instant:
    """The instant at which the first of *effects* took hold, as the probing agent's clock shows it.

    Args:
        effects: of one injection, each with `agent_id`.
        translations: by agent, from its clock to that of the probing agent; None where it is not known.

    Raises:
        ProbeError: nothing took hold, or the offset between two clocks is not known yet.
    """
    spans, reverts, open_ended = [], [], False
    for effect in effects:
        if not effect.get("injected_lo_ns") or not effect.get("injected_hi_ns"):
            continue
        translation = translations.get(effect["agent_id"])
        if translation is None:
            raise ProbeError(
                f"the clock offset of {effect['agent_id']} is not known yet; it takes two heartbeats after it connects"
            )
        spans.append(translation.bounds(int(effect["injected_lo_ns"]), int(effect["injected_hi_ns"])))
        if effect.get("undo") == "self_healing":
            open_ended = True
        elif effect.get("reverted_ns"):
            reverts.append(translation.bounds(int(effect["reverted_ns"]), int(effect["reverted_ns"]))[1])
        else:
            open_ended = True
    if not spans:
        raise ProbeError("the fault took hold nowhere, so there is nothing to recover from")
    reverted_ns = max(reverts) if reverts and not open_ended else None
    return Instant(min(lo for lo, _ in spans), min(hi for _, hi in spans), reverted_ns)


def result(recovery: Json, rto_s: float | None, *, confirmed: bool) -> str:
    """met, missed, inconclusive or not tested."""
    if not confirmed:
        return "inconclusive"
    if not recovery.get("recovered"):  # watched for less than the objective allows: nothing was missed yet
        return "inconclusive" if rto_s is not None and recovery["lo_s"] < rto_s else "missed"
    if rto_s is None:
        return "not tested"
    if recovery["hi_s"] <= rto_s:
        return "met"
    return "missed" if recovery["lo_s"] > rto_s else "inconclusive"


def beside_end(recovery: Json, when: Instant) -> str:
    """What is to be said of a recovery that came no earlier than the end of its fault; empty: it did come earlier."""
    if when.reverted_ns is None or not recovery.get("recovered") or not recovery.get("outages"):
        return ""
    lo_ns, hi_ns = when.hi_ns + round(recovery["lo_s"] * 1e9), when.lo_ns + round(recovery["hi_s"] * 1e9)
    if lo_ns >= when.reverted_ns:
        return "good again only after the fault had ended"
    if lo_ns >= when.reverted_ns - END_NS and hi_ns <= when.reverted_ns + END_NS:
        return "good again within half a second of the fault's end"
    return "perhaps good again only after the fault had ended" if hi_ns >= when.reverted_ns else ""


def worst(entries: Iterable[Json]) -> Json:
    """The entry with the gravest result; of equals, the one that took longest."""
    return max(entries, key=lambda e: (SEVERITY[e["result"]], e.get("value_s") or 0.0))


def sentence(entry: Json) -> str:
    """One line for a human."""
    subject = f"{entry['probe']} on {entry['agent_id']} after {entry['after']}"
    if not entry.get("recovered"):
        return f"{subject}: not recovered ({entry.get('note') or 'no stable window was seen'})"
    limit = f", objective {entry['rto_s']:g} s: {entry['result']}" if entry.get("rto_s") is not None else ""
    note = f" ({entry['note']})" if entry.get("note") and entry.get("outages") else ""
    return f"{subject}: recovered in {entry['value_s']:.3f} s [{entry['lo_s']:.3f}, {entry['hi_s']:.3f}]{limit}{note}"


def loss_result(balance: Json, rpo_s: float | None) -> str:
    """met, missed or inconclusive. Without an objective no acknowledged record may be lost; copies never may be."""
    if not balance["complete"] or not balance["acknowledged"]:
        return "inconclusive"  # of nothing, nothing can be lost
    within = not balance["lost"] if not rpo_s else balance["lost_s"] <= rpo_s  # one record alone spans 0 s
    return "met" if within and not balance["duplicated"] else "missed"


def loss_sentence(entry: Json) -> str:
    """One line for a human."""
    subject = f"{entry['probe']} on {entry['agent_id']}"
    if not entry["complete"]:
        return f"{subject}: the ledger {entry.get('note') or 'could not be read back'}"
    limit = "" if entry.get("rpo_s") is None else f", objective {entry['rpo_s']:g} s"
    span = f" within {entry['lost_s']:.3f} s" if entry["lost"] else ""
    further = ", ".join(
        f"{entry[name]} {words}" for name, words in _FURTHER.items() if entry.get(name)
    )  # fmt: skip
    counts = f"{entry['lost']} of {entry['acknowledged']} acknowledged records lost{span}"
    text = f"{subject}: {counts}{limit}: {entry['result']}"
    return f"{text} ({further})" if further else text


_FURTHER: Final = {
    "duplicated": "duplicated", "out_of_order": "out of order",
    "unacknowledged_present": "there and never acknowledged", "unknown": "never answered", "refused": "refused",
}  # fmt: skip
