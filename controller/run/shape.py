"""The shapes of a partition: who is cut off from whom among the targets, and which peers that makes for each agent.

Pure and seeded: the same agents and seed give the same cuts. Invariant: nobody is cut off from itself, and no shape
cuts nothing. Source: the shapes and their names are Jepsen's (complete grudge, halves, bridge, majorities ring,
minority third, isolated primaries); `docs/faults.md` says what each means here.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Final

from controller.selector import Candidate, Selector, parse, select
from protos.catalogue import APART, suggestion
from protos.error import Problem, SpecError

Json = dict[str, Any]
Pairs = list[tuple[str, str]]  # the nearer side first: the one that acts
ADDRESS_LABEL: Final = "address"
_RING_MIN: Final = 4
_ALONE: Final = Selector({}, "one")


@dataclass(frozen=True, slots=True)
class Node:
    """An agent among the targets. *addresses*: its `address` label, else where its stream comes from."""

    id: str
    labels: Mapping[str, str]
    addresses: tuple[str, ...]


def addresses(label: str, seen: str) -> tuple[str, ...]:
    """Addresses of an agent: those of its label (separated by spaces), else the one that its stream came from."""
    return tuple(label.split()) if label else tuple(filter(None, (seen,)))


def apart_selector(spec: Mapping[str, Any]) -> Selector | None:
    """Who is set apart, as *spec* asks; None where the shape knows no such side. SpecError with what is wrong."""
    shape = str(spec["shape"])
    if shape not in _SHAPES:
        raise SpecError(Problem("spec.shape", f"{shape!r} is not known", suggestion(shape, _SHAPES)))
    if (asked := spec.get("apart")) is not None:
        if shape not in APART:
            raise SpecError(Problem("spec.apart", f"{shape} sets nobody apart", f"these do: {', '.join(APART)}"))
        return parse({"pick": "one" if shape == "bridge" else "all", **asked}, "spec.apart")
    if shape == "primaries":
        remedy = "say who they are, as in apart: {labels: {role: primary}}"
        raise SpecError(Problem("spec.apart", "is missing: primaries needs it", remedy))
    return _ALONE if shape in APART else None


def resolve(spec: Json, nodes: Sequence[Node], *, apart: Sequence[str], seed: int) -> dict[str, Json]:
    """The spec of each agent that has to act, by its id, with `peers` in the place of `shape` and `apart`.

    A cut is made at its nearer end alone, both ways or one way: so the blast radius is the smaller side.

    Args:
        spec: as the experiment has it, with `shape`.
        nodes: the targets.
        apart: ids of those set apart, for shapes that ask for them.
        seed: the run's.

    Raises:
        SpecError: too few targets, or addresses that cannot tell them apart.
    """
    rest = {name: value for name, value in spec.items() if name not in ("shape", "apart")}
    where = _addresses(nodes)
    peers: dict[str, set[str]] = {}
    for near, far in pairs(str(spec["shape"]), [node.id for node in nodes], apart, seed):
        peers.setdefault(near, set()).update(where[far])
    return {node: rest | {"peers": sorted(peers[node])} for node in sorted(peers)}


def picked(selector: Selector | None, nodes: Iterable[Candidate], *, seed: int) -> list[str]:
    """Ids of those whom *selector* sets apart among *nodes*."""
    if selector is None:
        return []
    try:
        return select(selector, nodes, seed=seed)
    except SpecError as error:
        problems = [Problem(p.where.replace("targets", "spec.apart", 1), p.what, p.remedy) for p in error.problems]
        raise SpecError(*problems) from None


def pairs(shape: str, nodes: Sequence[str], apart: Sequence[str], seed: int) -> Pairs:
    """Who is cut off from whom; SpecError where *nodes* are too few for *shape*, or all of them are apart."""
    ordered = sorted(nodes)
    if len(ordered) < 2:
        raise SpecError(Problem("targets", f"{len(ordered)} agent: a partition needs two at least"))
    cut = _SHAPES[shape](ordered, sorted(apart), random.Random(seed))  # noqa: S311 - repeatable, no secret
    if not cut:
        raise SpecError(Problem("spec.apart", f"{shape} cuts nothing: all {len(ordered)} targets are on one side"))
    return cut


def words(shape: str, specs: Mapping[str, Json]) -> str:
    """For a human: `halves: a from 10.0.0.2, 10.0.0.3`."""
    return f"{shape}: " + "; ".join(f"{node} from {', '.join(spec['peers'])}" for node, spec in specs.items())


def _between(one: Iterable[str], other: Iterable[str]) -> Pairs:
    return list(product(one, other))


def _without(nodes: Sequence[str], apart: Sequence[str]) -> list[str]:
    return [node for node in nodes if node not in apart]


def _shuffled(nodes: Sequence[str], generator: random.Random) -> list[str]:
    return generator.sample(nodes, len(nodes))


def _halves(nodes: Sequence[str], _apart: Sequence[str], _generator: random.Random) -> Pairs:
    """The smaller half is the nearer side."""
    return _between(nodes[: len(nodes) // 2], nodes[len(nodes) // 2 :])


def _random_halves(nodes: Sequence[str], apart: Sequence[str], generator: random.Random) -> Pairs:
    return _halves(_shuffled(nodes, generator), apart, generator)


def _minority_third(nodes: Sequence[str], _apart: Sequence[str], generator: random.Random) -> Pairs:
    """The most that are fewer than a third, but one at least."""
    mixed, third = _shuffled(nodes, generator), max(1, (len(nodes) - 1) // 3)
    return _between(mixed[:third], mixed[third:])


def _isolate(nodes: Sequence[str], apart: Sequence[str], _generator: random.Random) -> Pairs:
    return _between(apart, _without(nodes, apart))


def _primaries(nodes: Sequence[str], apart: Sequence[str], _generator: random.Random) -> Pairs:
    return _between(apart, _without(nodes, apart)) + list(combinations(apart, 2))


def _complete(nodes: Sequence[str], _apart: Sequence[str], _generator: random.Random) -> Pairs:
    return list(combinations(nodes, 2))


def _bridge(nodes: Sequence[str], apart: Sequence[str], generator: random.Random) -> Pairs:
    if len(nodes) < 3:
        raise SpecError(Problem("targets", f"{len(nodes)} agents: a bridge needs three at least"))
    return _halves(_without(nodes, apart), [], generator)


def _majorities_ring(nodes: Sequence[str], _apart: Sequence[str], generator: random.Random) -> Pairs:
    """In a ring in random order each sees itself and its neighbours, a majority; no two see the same one."""
    if len(nodes) < _RING_MIN:
        raise SpecError(Problem("targets", f"{len(nodes)} agents: a majorities ring needs {_RING_MIN} at least"))
    ring, total = _shuffled(nodes, generator), len(nodes)
    reach = (total // 2 + 1) // 2  # neighbours seen on either side
    return [(ring[i], ring[j]) for i, j in combinations(range(total), 2) if min(j - i, total - (j - i)) > reach]


def _addresses(nodes: Sequence[Node]) -> dict[str, tuple[str, ...]]:
    """The addresses of each, checked: a cut by an address that is shared, or a loopback, would hit the wrong ones."""
    problems: list[Problem] = []
    owner: dict[str, str] = {}
    remedy = f"give each agent a label of its own: {ADDRESS_LABEL}=10.0.0.5"
    for node in nodes:
        if not node.addresses:
            problems.append(Problem("spec.shape", f"{node.id} has no known address", remedy))
        for text in node.addresses:
            if problem := _wrong(text):
                problems.append(Problem("spec.shape", f"{node.id} has the address {text!r}: {problem}", remedy))
            elif (other := owner.setdefault(text, node.id)) != node.id:
                problems.append(Problem("spec.shape", f"{other} and {node.id} have one address, {text}", remedy))
    if problems:
        raise SpecError(*problems)
    return {node.id: node.addresses for node in nodes}


def _wrong(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "not an IP address"
    return "a loopback, not what its peers see" if address.is_loopback else ""


_SHAPES: Final[dict[str, Callable[[Sequence[str], Sequence[str], random.Random], Pairs]]] = {
    "bridge": _bridge,
    "complete": _complete,
    "halves": _halves,
    "isolate": _isolate,
    "majorities_ring": _majorities_ring,
    "minority_third": _minority_third,
    "primaries": _primaries,
    "random_halves": _random_halves,
}
