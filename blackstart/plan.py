"""A gameday's plan: who takes part, what is run in which order, when to stop.

Invariant: a plan that was loaded names only experiments that are there and well formed; its paths are absolute.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from blackstart import structure
from blackstart.document import Document, load_mapping
from protos.error import Problem, SpecError

Need = Literal["root", "nftables", "namespaces", "gpu", "docker", "kubernetes"]
When = Literal["deviated", "inconclusive", "failed", "refused", "stranded"]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Scalar = str | int | float | bool
_RANK: Final = {"continue": 0, "stop": 1}


@dataclass(frozen=True, slots=True)
class Step:
    """One experiment. *needs*: what the place must have; without it the step is reported as not tested."""

    experiment: Path
    variables: dict[str, str]
    needs: tuple[Need, ...]
    title: str


@dataclass(frozen=True, slots=True)
class AbortRule:
    """What to do once a step has ended so."""

    when: When
    then: Literal["stop", "continue"]
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """*sequence*: groups, one after another; the steps of a group run at the same time."""

    path: Path
    title: str
    description: str
    roles: dict[str, tuple[str, ...]]
    profile: Path | None
    abort_rules: tuple[AbortRule, ...]
    notes: tuple[str, ...]
    sequence: tuple[tuple[Step, ...], ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for group in self.sequence for step in group)

    def stops_after(self, ended: When) -> AbortRule | None:
        """The rule that ends the gameday after a step that ended so; the strictest wins."""
        rules = [rule for rule in self.abort_rules if rule.when == ended]
        worst = max(rules, key=lambda rule: _RANK[rule.then], default=None)
        if worst is None and ended == "stranded":
            return AbortRule("stranded", "stop", "a fault could not be reverted: a human is needed first")
        return worst if worst and worst.then == "stop" else None


class _Step(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    experiment: Text
    vars: dict[str, Scalar] = {}
    needs: list[Need] = []


class _Parallel(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    parallel: Annotated[list[_Step], msgspec.Meta(min_length=1)]


class _AbortRule(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    when: When
    then: Literal["stop", "continue"] = "stop"
    why: str = ""


_FIELDS: Final[dict[str, Any]] = {
    "version": Literal[1],
    "title": Text,
    "description": str,
    "roles": dict[str, list[Text] | Text],
    "profile": Text,
    "abort_rules": list[_AbortRule],
    "notes": list[Text],
}
_REQUIRED: Final = ("version", "title", "sequence")


@dataclass(slots=True)
class _Loader:
    document: Document
    problems: list[Problem] = field(default_factory=list)

    def convert(self, path: str, value: object, kind: Any) -> Any:
        """*value* as *kind*, or None and a problem."""
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            what, _, inner = str(error).partition(" - at `$")
            self.problems.append(Problem(self.document.where(path + inner.rstrip("`")), what))
            return None

    def step(self, path: str, row: _Step) -> Step | None:
        file = (self.document.path.parent / row.experiment).resolve()
        try:
            document = load_mapping(file)
        except SpecError as error:
            what = "; ".join(map(str, error.problems))
            self.problems.append(
                Problem(self.document.where(f"{path}.experiment"), what, "paths are relative to the plan")
            )
            return None
        found = structure.check(document)
        self.problems += found
        known = document.content.get("configuration") or {}
        for name in row.vars:
            if name not in known:
                listed = ", ".join(known) or "none"
                where = self.document.where(f"{path}.vars.{name}")
                self.problems.append(Problem(where, f"{file.name} has no variable {name!r}", f"it has: {listed}"))
        values = {name: _text(value) for name, value in row.vars.items()}
        title = str(document.content.get("title", file.stem))
        return None if found else Step(file, values, tuple(row.needs), title)

    def group(self, index: int, row: object) -> tuple[Step, ...]:
        path = f"sequence[{index}]"
        if isinstance(row, dict) and "parallel" in row:
            parallel = self.convert(path, row, _Parallel)
            steps = [(f"{path}.parallel[{i}]", one) for i, one in enumerate(parallel.parallel)] if parallel else []
        else:
            single = self.convert(path, row, _Step)
            steps = [(path, single)] if single else []
        return tuple(step for where, one in steps if (step := self.step(where, one)))


def load(path: Path) -> Plan:
    """The plan in the file *path*; SpecError with every problem of the plan and of its experiments."""
    document = load_mapping(path)
    loader = _Loader(document, list(document.problems))
    content: dict[str, Any] = document.content
    for name in _REQUIRED:
        if name not in content:
            loader.problems.append(Problem(document.where(name), "is missing"))
    for name in sorted(set(map(str, content)) - set(_FIELDS) - {"sequence"}):
        known = ", ".join([*_FIELDS, "sequence"])
        loader.problems.append(Problem(document.where(name), "is no part of a plan", f"known: {known}"))
    fields = {name: loader.convert(name, content[name], kind) for name, kind in _FIELDS.items() if name in content}
    rows = content.get("sequence", [])
    if not isinstance(rows, list) or ("sequence" in content and not rows):
        loader.problems.append(Problem(document.where("sequence"), "must be a list with at least one step"))
        rows = []
    sequence = tuple(loader.group(index, row) for index, row in enumerate(rows))
    profile = (path.parent / fields["profile"]).resolve() if fields.get("profile") else None
    if profile and not profile.is_file():
        loader.problems.append(Problem(document.where("profile"), f"{profile} is not there"))
    if loader.problems:
        raise SpecError(*loader.problems)
    return Plan(
        path=path.resolve(),
        title=fields["title"],
        description=fields.get("description", ""),
        roles={name: (who,) if isinstance(who, str) else tuple(who) for name, who in fields.get("roles", {}).items()},
        profile=profile,
        abort_rules=tuple(AbortRule(rule.when, rule.then, rule.why) for rule in fields.get("abort_rules", [])),
        notes=tuple(fields.get("notes", ())),
        sequence=sequence,
    )


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
