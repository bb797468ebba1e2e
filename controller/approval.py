"""Second person: an experiment that is tagged dangerous runs only after somebody else has approved that very document.

Invariant: an approval is of one digest (the experiment and the values that its variables will have), is given by
another certificate than the submitter's, expires, and serves one run; the store takes it and adds the run in one
transaction. The tag is its author's word: this guards against the run that nobody looked at, not against an author who
leaves the tag out.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any, Final

from controller.run.variable import effective
from controller.store.base import ApprovalRecord
from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.run.machine import Submission
    from controller.store.base import Store

Json = dict[str, Any]
TAG: Final = "dangerous"
VALID_S: Final = 24 * 3600.0
VALID_S_MAX: Final = 7 * VALID_S
_LOOKED_AT: Final = 100


def needed(experiment: Json) -> bool:
    """Whether the experiment asks for a second person."""
    tags = experiment.get("tags")
    return isinstance(tags, list) and any(str(tag).lower() == TAG for tag in tags)


def digest(experiment: Json, variables: Mapping[str, str]) -> str:
    """Of what would run: the same for files that differ in layout only, another for any other value of a variable."""
    document = {key: value for key, value in experiment.items() if key != "dry"}
    content = {"experiment": document, "values": effective(experiment, variables)}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


async def approve(store: Store, what: Submission, valid_s: float) -> ApprovalRecord:
    """Keeps the approval of *what* by the one who asks; SpecError where none is needed, or for a wrong term."""
    valid_s = valid_s or VALID_S
    if not needed(what.experiment):
        raise SpecError(Problem(what.source or "experiment", f"is not tagged {TAG}", "it needs no approval: run it"))
    if not 0 < valid_s <= VALID_S_MAX:
        raise SpecError(Problem("valid_s", f"{valid_s:g} is out of range", f"more than 0, at most {VALID_S_MAX:g}"))
    now_ns = time.time_ns()
    record = ApprovalRecord(
        digest=digest(what.experiment, what.variables), title=str(what.experiment.get("title") or "untitled"),
        source=what.source, approver=what.actor, approved_wall_ns=now_ns, expires_wall_ns=now_ns + int(valid_s * 1e9),
    )  # fmt: skip
    await store.add_approval(record)
    return record


async def missing(store: Store, what: Submission) -> str:
    """Who must do what before *what* may run, in a sentence; empty when nothing is missing."""
    if not needed(what.experiment):
        return ""
    mark, now_ns = digest(what.experiment, what.variables), time.time_ns()
    given = await store.approvals(_LOOKED_AT, mark)
    live = [one for one in given if not one.run_id and one.expires_wall_ns > now_ns]
    if any(one.approver != what.submitter for one in live):
        return ""
    if live:
        why = f"{what.submitter}'s own approval does not count"
    elif given:
        last = given[0]
        why = f"the approval by {last.approver} " + (f"served run {last.run_id}" if last.run_id else "has expired")
    else:
        why = "nobody has approved exactly this document with these values"
    return (
        f"{what.experiment.get('title')!r} is tagged {TAG} and {why} (digest {mark[:12]}): another operator or admin "
        f"than {what.submitter} must run `blackstart approve {what.source or 'FILE'}`, with the same --var values"
    )
