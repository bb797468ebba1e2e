"""Which agents a fault, probe or workload is meant for. Pure and seeded: the same fleet and seed pick the same agents.

Invariant: an answer is never empty, never larger than the candidates, and sorted by agent id.
Source: the words (one, all, minority, majority) are Jepsen's; docs/architecture.md, "Driver functions".
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from protos.error import Problem, SpecError

WORDS: Final = ("one", "all", "minority", "majority")
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_REMEDY: Final = 'pick takes one, all, minority, majority, a count such as 3, or a share such as "30%"'


@dataclass(frozen=True, slots=True)
class Selector:
    """*pick* is a word of WORDS, a count >= 1, or a share in (0, 1]. *seed* None: the run's own."""

    labels: Mapping[str, str]
    pick: str | int | float
    seed: int | None = None
    where: Mapping[str, Any] | None = None  # a probe's kind and spec: agents on which it succeeds at the moment of use

    def __str__(self) -> str:
        labels = ",".join(f"{key}={value}" for key, value in sorted(self.labels.items())) or "any agent"
        pick = f"{self.pick:.4g} of" if isinstance(self.pick, float) else str(self.pick)
        return f"{pick} {labels}" + (f" where {self.where['kind']} succeeds" if self.where else "")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A connected agent, and whether it can do what is asked (*missing*: why not, empty when it can)."""

    id: str
    labels: Mapping[str, str]
    missing: str = ""


def parse(document: object, where: str = "targets") -> Selector:
    """The selector that a document's `targets` means; SpecError with every problem at once."""
    if not isinstance(document, Mapping):
        raise SpecError(Problem(where, "is not a mapping", "write {labels: {role: db}, pick: one}"))
    problems = [
        Problem(f"{where}.{key}", "is not known", "a selector has labels, pick, seed and where")
        for key in sorted(set(document) - {"labels", "pick", "seed", "where"}, key=str)
    ]
    labels = document.get("labels") or {}
    if not isinstance(labels, Mapping):
        problems.append(Problem(f"{where}.labels", "is not a mapping", "write {role: db}"))
        labels = {}
    seed = document.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        problems.append(Problem(f"{where}.seed", f"{seed!r} is not an integer"))
    if (asked := document.get("where")) is not None and not _is_question(asked):
        remedy = "write a probe: {kind: http, spec: {url: …}}, and perhaps timeout_ms"
        problems.append(Problem(f"{where}.where", f"{asked!r} is no question to an agent", remedy))
    pick = _pick(document.get("pick", "all"))
    if pick is None:
        problems.append(Problem(f"{where}.pick", f"{document.get('pick')!r} is not a pick", _REMEDY))
    if problems or pick is None:
        raise SpecError(*problems)
    return Selector({str(key): _text(value) for key, value in labels.items()}, pick, seed, asked)


def _is_question(asked: object) -> bool:
    return (
        isinstance(asked, Mapping)
        and set(asked) <= {"kind", "spec", "timeout_ms"}
        and isinstance(asked.get("kind"), str)
        and isinstance(asked.get("spec"), Mapping)
    )


def _text(value: Any) -> str:
    """A label's value as YAML gave it: `true` and `3` are written as an agent's labels are."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pick(value: object) -> str | int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 1 else None
    if not isinstance(value, str):
        return None
    if value in WORDS:
        return value
    if value.isascii() and value.isdigit():
        return _pick(int(value))
    if found := _PERCENT.fullmatch(value.strip()):
        share = float(found[1]) / 100
        return share if 0 < share <= 1 else None
    return None


def count(pick: str | float, total: int) -> int:
    """How many of *total* >= 1 candidates *pick* means; a count above *total* is returned as it is.

    minority: the most that leave a majority standing, floor((n - 1) / 2), but at least one, since a fault on nobody
    tests nothing. majority: floor(n / 2) + 1. A share rounds down, but to one at least.
    """
    if isinstance(pick, float):
        return max(1, int(total * pick + 1e-9))
    if isinstance(pick, int):
        return pick
    return {"one": 1, "all": total, "minority": max(1, (total - 1) // 2), "majority": total // 2 + 1}[pick]


def select(selector: Selector, candidates: Iterable[Candidate], *, seed: int, kind: str = "") -> list[str]:
    """Ids of the agents picked, sorted.

    Args:
        selector: what the document asks for.
        candidates: the connected agents.
        seed: the run's; used where the selector has none.
        kind: what is to be done, for messages.

    Raises:
        SpecError: nobody fits, or fewer than the count asked.
    """
    agents = sorted(candidates, key=lambda agent: agent.id)
    matching = [agent for agent in agents if selector.labels.items() <= dict(agent.labels).items()]
    able = [agent.id for agent in matching if not agent.missing]
    if not able:
        raise SpecError(_nobody(selector, agents, matching, kind))
    wanted = count(selector.pick, len(able))
    if wanted > len(able):
        raise SpecError(
            Problem("targets.pick", f"{wanted} agents are asked for and {len(able)} fit {selector}: {', '.join(able)}")
        )
    if wanted == len(able):
        return able
    generator = random.Random(selector.seed if selector.seed is not None else seed)  # noqa: S311 - repeatable, no secret
    return sorted(generator.sample(able, wanted))


def _nobody(selector: Selector, agents: list[Candidate], matching: list[Candidate], kind: str) -> Problem:
    if matching:
        reasons = "; ".join(f"{agent.id}: {agent.missing}" for agent in matching[:5])
        return Problem("targets", f"none of {len(matching)} matching agents can do {kind}: {reasons}")
    if not agents:
        return Problem("targets", "no agent is connected", "start blackstart-agent on the nodes; see `agents list`")
    existing = sorted({f"{key}={value}" for agent in agents for key, value in agent.labels.items()})
    asked = ", ".join(f"{key}={value}" for key, value in sorted(selector.labels.items()))
    return Problem(
        "targets.labels", f"no connected agent has {asked}", f"labels that exist: {', '.join(existing) or 'none'}"
    )
