"""What each agent of an injection is asked for: the experiment's spec, or what a shape makes of it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from controller.run import shape
from controller.selector import parse, select

if TYPE_CHECKING:
    from controller.fleet import Fleet, Member

Json = dict[str, Any]


def specs(fleet: Fleet, seed: int, fault: str, targets: object, spec: Json) -> tuple[dict[str, Json], str]:
    """The spec of every agent that has to act, by its id, and whom that means, in words.

    With a shape, targets on which nothing has to be done (who sees both sides of a bridge) are left out.

    Raises:
        SpecError: nobody fits the targets, or the shape does not fit them.
    """
    selector = parse(targets)
    agents = select(selector, fleet.candidates("fault", fault), seed=seed, kind=fault)
    if "shape" not in spec:
        return dict.fromkeys(agents, spec), f"{selector}: {', '.join(agents)}"
    nodes = [_node(member) for agent in agents if (member := fleet.member(agent)) is not None]
    apart = shape.picked(shape.apart_selector(spec), nodes, seed=seed)
    found = shape.resolve(spec, nodes, apart=apart, seed=seed)
    return found, f"{selector}: {shape.words(str(spec['shape']), found)}"


def _node(member: Member) -> shape.Node:
    label = member.labels.get(shape.ADDRESS_LABEL, "")
    return shape.Node(member.id, member.labels, shape.addresses(label, member.address))
