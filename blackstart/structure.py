"""What can be said of an experiment without a controller: its structure, and the calls of our own functions.

Invariant: every problem is found in one pass, each with file and line. Nothing is imported that the file names, and
no process is started: an untrusted file can be checked.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from blackstart.document import Document, load_mapping
from protos import catalogue, reference
from protos.error import Problem, SpecError
from protos.specification import check_spec

ROOT: Final = frozenset({
    "version", "title", "description", "tags", "configuration", "secrets", "contributions", "controls", "extensions",
    "steady-state-hypothesis", "method", "rollbacks", "runtime", "dry",
})  # fmt: skip
PROVIDERS: Final = frozenset({"python", "process", "http"})
VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
CONTROLS: Final = frozenset({"blackstart.chaos.telemetry", "blackstart.chaos.abort"})
PICKS: Final = frozenset({"one", "all", "minority", "majority"})
Found = Iterator[Problem]


def check(document: Document) -> list[Problem]:
    """All that is wrong with the experiment; empty when it can be submitted."""
    return [*document.problems, *_Experiment(document).problems()]


def load_experiment(path: Any) -> dict[str, Any]:
    """The experiment in the file *path*; SpecError with every problem that it has."""
    document = load_mapping(path)
    if found := check(document):
        raise SpecError(*found)
    content = document.content
    assert isinstance(content, dict)
    return content


@dataclass(frozen=True, slots=True)
class _Experiment:
    document: Document

    def problems(self) -> Found:
        root = self.document.content
        for key in sorted(set(map(str, root)) - ROOT):
            yield self._at(key, "is no part of an experiment", f"known: {', '.join(sorted(ROOT - {'dry'}))}")
        for key in ("title", "description"):
            if not isinstance(root.get(key), str) or not root[key].strip():
                yield self._at(key, "must be a text that is not empty")
        if not isinstance(root.get("method"), list):
            yield self._at("method", "must be a list of steps; an empty one checks the hypothesis only")
        for key in ("configuration", "secrets", "extensions"):
            if key in root and not isinstance(root[key], dict | list):
                yield self._at(key, "must be a mapping")
        yield from self._hypothesis(root.get("steady-state-hypothesis"))
        for key in ("method", "rollbacks"):
            for index, activity in enumerate(self._rows(root.get(key))):
                yield from self._activity(activity, f"{key}[{index}]")
        for index, control in enumerate(self._rows(root.get("controls"))):
            yield from self._control(control, f"controls[{index}]")
        yield from self._variables(root)
        yield from self._references(root)

    def _references(self, root: dict[str, Any]) -> Found:
        """Names that calls ask for must have been started before: else that is found only after the fault."""
        import blackstart.chaos as extension

        for find in (reference.unknown, reference.order_problems):
            for path, what, remedy in find(root, extension.__all__):
                yield self._at(path, what, remedy)

    def _at(self, path: str, what: str, remedy: str = "") -> Problem:
        return Problem(self.document.where(path), what, remedy)

    @staticmethod
    def _rows(value: object) -> list[Any]:
        return value if isinstance(value, list) else []

    def _hypothesis(self, hypothesis: object) -> Found:
        path = "steady-state-hypothesis"
        if hypothesis is None:
            return
        if not isinstance(hypothesis, dict):
            yield self._at(path, "must be a mapping with title and probes")
            return
        if not hypothesis.get("title"):
            yield self._at(f"{path}.title", "is missing")
        for index, probe in enumerate(self._rows(hypothesis.get("probes"))):
            inner = f"{path}.probes[{index}]"
            yield from self._activity(probe, inner)
            if isinstance(probe, dict):
                yield from self._tolerance(probe, f"{inner}.tolerance")

    def _tolerance(self, probe: dict[str, Any], path: str) -> Found:
        if "tolerance" not in probe:
            yield self._at(path, "is missing: a hypothesis compares", "write {type: range, range: [0.99, 1]}")
            return
        tolerance = probe["tolerance"]
        if isinstance(tolerance, float):
            yield self._at(path, "a plain float never matches", "write {type: range, range: [lo, hi]}")
        elif isinstance(tolerance, dict) and tolerance.get("type") == "range":
            bounds = tolerance.get("range")
            if not (isinstance(bounds, list) and len(bounds) == 2 and all(_is_number(bound) for bound in bounds)):
                yield self._at(path, "range must be two numbers, [lo, hi]")
            elif bounds[0] > bounds[1]:
                yield self._at(path, f"nothing lies between {bounds[0]} and {bounds[1]}")

    def _activity(self, activity: object, path: str) -> Found:
        if not isinstance(activity, dict):
            yield self._at(path, "must be a mapping with type, name and provider")
            return
        if "ref" in activity:
            return
        if activity.get("type") not in ("probe", "action"):
            yield self._at(f"{path}.type", "must be probe or action")
        if not isinstance(activity.get("name"), str) or not activity["name"]:
            yield self._at(f"{path}.name", "is missing")
        provider = activity.get("provider")
        if not isinstance(provider, dict) or provider.get("type") not in PROVIDERS:
            yield self._at(f"{path}.provider", f"must be a mapping whose type is one of {', '.join(sorted(PROVIDERS))}")
            return
        if provider["type"] == "python":
            for key in ("module", "func"):
                if not provider.get(key):
                    yield self._at(f"{path}.provider.{key}", "is missing")
            if provider.get("module") == "blackstart.chaos":
                yield from self._ours(provider, f"{path}.provider")

    def _ours(self, provider: dict[str, Any], path: str) -> Found:
        """A call of one of our functions: its name and its arguments."""
        import blackstart.chaos as extension

        names = sorted(extension.__all__)
        if (function := provider.get("func")) not in names:
            yield self._at(f"{path}.func", f"there is no function {function!r}", f"it has {', '.join(names)}")
            return
        arguments = provider.get("arguments") or {}
        path = f"{path}.arguments"
        if not isinstance(arguments, dict):
            yield self._at(path, "must be a mapping")
            return
        parameters = inspect.signature(getattr(extension, function)).parameters
        for key in arguments:
            if key not in parameters:
                yield self._at(f"{path}.{key}", f"{function} takes no {key!r}", f"it takes {', '.join(parameters)}")
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in arguments:
                yield self._at(path, f"{function} needs {name!r}")
            elif name in arguments:
                yield from self._argument(name, parameter, arguments[name], f"{path}.{name}")
        if function == "inject":
            yield from self._fault(arguments, path)

    def _fault(self, arguments: dict[str, Any], path: str) -> Found:
        """The kind of fault and its spec, as the catalogue has them."""
        kind = arguments.get("fault")
        if not isinstance(kind, str) or not kind or VARIABLE.search(kind):
            return
        if kind not in catalogue.catalogue():
            remedy = catalogue.suggestion(kind, catalogue.catalogue())
            yield self._at(f"{path}.fault", f"there is no kind of fault {kind!r}", remedy)
        for problem in check_spec(kind, arguments.get("spec"), f"{path}.spec"):
            yield self._at(problem.where, problem.what, problem.remedy)

    def _argument(self, name: str, parameter: inspect.Parameter, value: object, path: str) -> Found:
        if isinstance(value, str) and VARIABLE.search(value):
            return
        if name == "targets":
            yield from self._targets(value, path)
        elif str(parameter.annotation) == "bool":
            if not isinstance(value, bool):
                yield self._at(path, f"must be true or false, not {value!r}")
        elif "float" in str(parameter.annotation):
            if not (_is_number(value) or (value is None and "None" in str(parameter.annotation))):
                yield self._at(path, f"must be a number, not {value!r}")
            elif isinstance(value, int | float) and value <= 0:
                yield self._at(path, f"must be above 0, not {value}")
        elif str(parameter.annotation) == "str" and not (isinstance(value, str) and value):
            yield self._at(path, f"must be a text, not {value!r}")
        elif name == "on_lost_controller" and value not in ("revert", "hold"):
            yield self._at(path, "must be revert or hold")
        elif str(parameter.annotation).startswith("Json") and not isinstance(value, dict):
            yield self._at(path, "must be a mapping")

    def _targets(self, targets: object, path: str) -> Found:
        if not isinstance(targets, dict) or not isinstance(targets.get("labels"), dict) or not targets["labels"]:
            yield self._at(path, "must name labels", "{labels: {role: encode}, pick: one}")
            return
        for key in sorted(set(map(str, targets)) - {"labels", "pick", "seed", "where"}):
            yield self._at(f"{path}.{key}", "is unknown", "targets take labels, pick, seed and where")
        where = targets.get("where", {"kind": "", "spec": {}})
        if not isinstance(where, dict) or not {"kind", "spec"} <= set(where) <= {"kind", "spec", "timeout_ms"}:
            yield self._at(f"{path}.where", f"{where!r} is no question to an agent", "{kind: http, spec: {url: …}}")
        pick = targets.get("pick", "all")
        share = isinstance(pick, str) and re.fullmatch(r"\d{1,2}(\.\d+)?%|100%", pick)
        count = not isinstance(pick, bool) and ((isinstance(pick, int) and pick > 0) or str(pick).isdigit())
        if not (pick in PICKS or share or count or (isinstance(pick, str) and VARIABLE.search(pick))):
            yield self._at(f"{path}.pick", f"{pick!r} picks nothing", "one, all, minority, majority, 3 or 30%")

    def _control(self, control: object, path: str) -> Found:
        provider = control.get("provider") if isinstance(control, dict) else None
        if not isinstance(control, dict) or not control.get("name") or not isinstance(provider, dict):
            yield self._at(path, "must be a mapping with name and provider")
            return
        module = str(provider.get("module", ""))
        if module.startswith("blackstart.") and module not in CONTROLS:
            yield self._at(
                f"{path}.provider.module", f"no control {module!r}", f"there are {', '.join(sorted(CONTROLS))}"
            )
        if module == "blackstart.chaos.abort":
            from chaoslib.exceptions import InvalidActivity

            from blackstart.chaos.abort import conditions_from

            try:
                conditions_from((provider.get("arguments") or {}).get("conditions", []))
            except InvalidActivity as error:
                yield self._at(f"{path}.provider.arguments", str(error).removeprefix("blackstart.chaos.abort: "))

    def _variables(self, root: dict[str, Any]) -> Found:
        """`${name}` that nothing defines reaches the function as it stands."""
        known = set(root.get("configuration") or {})
        for group in (root.get("secrets") or {}).values():
            known |= set(group) if isinstance(group, dict) else set()
        for part in ("steady-state-hypothesis", "method", "rollbacks"):
            for path, text in _texts(root.get(part), part):
                for name in VARIABLE.findall(text):
                    if name not in known:
                        yield self._at(path, f"${{{name}}} is not in configuration", "add it there, with a default")


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{index}]")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
