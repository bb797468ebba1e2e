"""What each agent of an injection is asked for: the experiment's spec, or what a shape makes of it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from controller.run import picking, shape
from controller.selector import Candidate

if TYPE_CHECKING:
    from controller.fleet import Member
    from controller.run.reach import Reach

Json = dict[str, Any]


async def specs(reach: Reach, seed: int, fault: str, targets: object, spec: Json) -> tuple[dict[str, Json], str]:
    """The spec of every agent that has to act, by its id, and whom that means, in words.

    With a shape, targets on which nothing has to be done (who sees both sides of a bridge) are left out.

    Raises:
        SpecError: nobody fits the targets, or the shape does not fit them.
    """
    selector, agents = await picking.pick(reach, "fault", fault, targets, seed=seed)
    if "shape" not in spec:
        return dict.fromkeys(agents, spec), f"{selector}: {', '.join(agents)}"
    nodes = [_node(member) for agent in agents if (member := reach.fleet.member(agent)) is not None]
    aside = shape.apart_selector(spec)
    known = [Candidate(node.id, node.labels) for node in nodes]
    apart = shape.picked(aside, await picking.asked(reach, aside, known) if aside else known, seed=seed)
    found = shape.resolve(spec, nodes, apart=apart, seed=seed)
    return found, f"{selector}: {shape.words(str(spec['shape']), found)}"


def _node(member: Member) -> shape.Node:
    label = member.labels.get(shape.ADDRESS_LABEL, "")
    return shape.Node(member.id, member.labels, shape.addresses(label, member.address))
