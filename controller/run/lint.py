"""What is wrong with an experiment, found before anything runs. Pure; imports no module that the experiment names.

Chaos Toolkit forgives what must not be forgiven: a tolerance that raises skips every rollback, a tolerance of 0.99
matches nothing but 0.99, a process provider is a shell. Each rule here stands for one such case. Invariant: all
problems are found at once, each with its place in the document.
Source: docs/decisions.md, "What the engine is not trusted with".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from controller.run import signature
from controller.run.tolerance import check_tolerance
from controller.selector import parse
from protos import reference
from protos.catalogue import catalogue, suggestion
from protos.error import Problem, SpecError
from protos.specification import check_spec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Json = dict[str, Any]
_SECRET_WORDS: Final = ("password", "passwd", "token", "api_key", "apikey", "private_key", "access_key")
_TOP: Final = (
    "version", "title", "description", "tags", "configuration", "secrets", "controls", "runtime", "extensions",
    "contributions", "steady-state-hypothesis", "method", "rollbacks", "dry",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Allowed:
    """*faults* None: the fleet's kinds are not known. *external*: run by somebody else's process, on their machine."""

    modules: tuple[str, ...] = (reference.MODULE,)
    faults: Collection[str] | None = None
    external: bool = False


def lint(experiment: object, allowed: Allowed, source: str = "") -> None:
    """SpecError with every problem; returns when there is none.

    Args:
        experiment: the document as parsed.
        allowed: what it may use.
        source: file name, for the places of the problems.
    """
    linter = _Linter(allowed, source or "experiment")
    linter.experiment(experiment)
    if isinstance(experiment, dict):
        linter.orders(experiment)
    if isinstance(experiment, dict) and not linter.problems and not allowed.external:  # whose own code may start more
        linter.references(experiment)
    if linter.problems:
        raise SpecError(*linter.problems)


def lint_faults(experiment: Json, allowed: Allowed, source: str = "") -> None:
    """SpecError with every problem of faults and their specs: for a sound document whose variables are put in place."""
    linter = _Linter(allowed, source or "experiment")
    for path, _, function, arguments in signature.calls(experiment):
        if function == "inject":
            linter.fault(arguments, path)
    if linter.problems:
        raise SpecError(*linter.problems)


@dataclass(slots=True)
class _Linter:
    allowed: Allowed
    source: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: str, what: str, remedy: str = "") -> None:
        self.problems.append(Problem(f"{self.source}: {path}", what, remedy))

    def experiment(self, document: object) -> None:
        if not isinstance(document, dict):
            self.add("(top)", "is not a mapping", "an experiment has title, description and method")
            return
        for key in sorted(set(document) - set(_TOP), key=str):
            self.add(str(key), "is not a part of an experiment", f"parts are: {', '.join(_TOP)}")
        for key in ("title", "description"):
            if not isinstance(document.get(key), str) or not document[key].strip():
                self.add(key, "is missing", f"write one line: {key}: …")
        self.activities(document.get("method"), "method", required=True)
        self.activities(document.get("rollbacks") or [], "rollbacks")
        self.hypothesis(document.get("steady-state-hypothesis"))
        self.controls(document.get("controls") or [], "controls")
        self.secrets(document.get("secrets"), "secrets", inside=True)
        self.configuration(document.get("configuration"))

    def hypothesis(self, document: object) -> None:
        path = "steady-state-hypothesis"
        if document is None:
            return
        if not isinstance(document, dict):
            self.add(path, "is not a mapping")
            return
        if not document.get("title"):
            self.add(f"{path}.title", "is missing")
        probes = document.get("probes")
        self.activities(probes, f"{path}.probes", required=True)
        for place, probe in _rows(probes, f"{path}.probes"):
            self.problems += [
                Problem(f"{self.source}: {problem.where}", problem.what, problem.remedy)
                for problem in check_tolerance(probe, place, external=self.allowed.external)
            ]

    def activities(self, rows: object, path: str, *, required: bool = False) -> None:
        if not isinstance(rows, list):
            if rows is not None or required:
                self.add(path, "is not a list" if rows is not None else "is missing")
            return
        if required and not rows and not self.allowed.external:
            self.add(path, "is empty", "an experiment without a step tests nothing")
        for place, row in _rows(rows, path):
            self.activity(row, place)
        for k, row in enumerate(rows):
            if not isinstance(row, dict):
                self.add(f"{path}[{k}]", "is not a mapping")

    def activity(self, row: Json, path: str) -> None:
        if "ref" in row:
            if extra := sorted(set(row) - {"ref"}):  # the engine would carry out the provider of such a row
                self.add(path, f"has ref and also {', '.join(extra)}", "a reference stands alone")
            return
        if row.get("type") not in ("action", "probe"):
            self.add(f"{path}.type", f"{row.get('type')!r} is neither action nor probe")
        if not row.get("name"):
            self.add(f"{path}.name", "is missing")
        self.controls(row.get("controls") or [], f"{path}.controls")
        self.provider(row.get("provider"), f"{path}.provider")

    def controls(self, rows: object, path: str) -> None:
        if not isinstance(rows, list):
            self.add(path, "is not a list")
            return
        for place, row in _rows(rows, path):
            self.provider(row.get("provider"), f"{place}.provider", control=True)

    def provider(self, provider: object, path: str, *, control: bool = False) -> None:
        if not isinstance(provider, dict):
            self.add(path, "is missing", "write {type: python, module: blackstart.chaos, func: …}")
            return
        self.secrets(provider.get("arguments"), f"{path}.arguments", inside=False)
        kind = provider.get("type")
        if kind == "python":
            self.python(provider, path, control=control)
        elif kind == "process" and not self.allowed.external:
            self.add(f"{path}.type", "process providers run as the controller", "use run_workload, kind command")
        elif kind == "http" and not control:
            if not isinstance(provider.get("timeout"), int | float | list):
                self.add(f"{path}.timeout", "is missing", "without one a silent peer hangs the run: timeout: 5")
        elif kind not in ("process", "http"):
            self.add(f"{path}.type", f"{kind!r} is not a provider", "use python with module blackstart.chaos")

    def python(self, provider: Json, path: str, *, control: bool) -> None:
        module = provider.get("module")
        names = self.allowed.modules
        if not isinstance(module, str):
            self.add(f"{path}.module", "is missing")
        elif not self.allowed.external and not any(module == n or module.startswith(f"{n}.") for n in names):
            self.add(f"{path}.module", f"{module!r} is not allowed here", f"allowed are: {', '.join(names)}")
        if module == reference.MODULE and not control:
            self.call(str(provider.get("func")), provider.get("arguments") or {}, path)

    def call(self, function: str, arguments: object, path: str) -> None:
        known = signature.FUNCTIONS.get(function)
        if known is None:
            self.add(f"{path}.func", f"no function {function!r}", f"there are: {', '.join(signature.FUNCTIONS)}")
            return
        if not isinstance(arguments, dict):
            self.add(f"{path}.arguments", "is not a mapping")
            return
        for name in sorted(set(arguments) - set(known), key=str):
            self.add(f"{path}.arguments.{name}", f"{function} has no such argument", f"it has: {', '.join(known)}")
        for name, argument in known.items():
            if name not in arguments:
                if argument.required:
                    self.add(f"{path}.arguments.{name}", f"is missing: {function} needs it")
            elif not signature.fits(argument.kind, arguments[name]):
                self.add(f"{path}.arguments.{name}", f"{arguments[name]!r} is not {argument.kind}")
        self.values(function, arguments, f"{path}.arguments")

    def values(self, function: str, arguments: Json, path: str) -> None:
        targets = arguments.get("targets")
        if isinstance(targets, dict) and "${" not in str(targets):
            try:
                parse(targets, f"{self.source}: {path}.targets")
            except SpecError as error:
                self.problems += error.problems
        if function == "inject":
            self.fault(arguments, path)
        duration_s = arguments.get("duration_s")
        if isinstance(duration_s, int | float) and not duration_s > 0:
            self.add(f"{path}.duration_s", f"is {duration_s:g}", "every fault ends: give more than 0 seconds")
        if arguments.get("on_lost_controller", "revert") not in ("revert", "hold"):
            self.add(f"{path}.on_lost_controller", "is neither revert nor hold")

    def references(self, experiment: Json) -> None:
        """What the method asks for must be started before: else that is found only after the fault.

        A hypothesis that asks for what is not there is not established, and nothing is injected.
        """
        for path, what, remedy in reference.unknown(experiment, signature.FUNCTIONS):
            self.add(path, what, remedy)

    def orders(self, experiment: Json) -> None:
        """What `cascade` is to expect."""
        for path, what, remedy in reference.order_problems(experiment, signature.FUNCTIONS):
            self.add(path, what, remedy)

    def fault(self, arguments: Json, path: str) -> None:
        """The kind, which an agent here or this version must know, and its spec by the catalogue's schema."""
        kind, here = arguments.get("fault"), self.allowed.faults
        if not isinstance(kind, str) or not kind or "${" in kind:
            return
        if kind not in (here or catalogue()):
            what = f"no agent knows {kind!r}" if here else f"there is no kind of fault {kind!r}"
            self.add(f"{path}.fault", what, suggestion(kind, here or catalogue()))
        self.problems += check_spec(kind, arguments.get("spec"), f"{self.source}: {path}.spec")

    def configuration(self, document: object) -> None:
        if document is None:
            return
        if not isinstance(document, dict):
            self.add("configuration", "is not a mapping")
            return
        self.secrets(document, "configuration", inside=False)
        for name, value in document.items():
            if isinstance(value, dict) and value.get("type") == "probe":
                self.provider(value.get("provider"), f"configuration.{name}.provider")

    def secrets(self, document: object, path: str, *, inside: bool) -> None:
        """Literals in `secrets`, and values whose name says secret: they would stand in journal and report."""
        for place, name, value in _leaves(document, path):
            telling = any(word in name.lower() for word in _SECRET_WORDS)
            if inside and place.endswith((".type", ".key", ".path")):
                continue
            if (inside or telling) and isinstance(value, str) and value and "${" not in value:
                self.add(place, "is a secret in clear text", "name its source: {type: env, key: NAME}")


def _rows(rows: object, path: str) -> Iterator[tuple[str, Json]]:
    for k, row in enumerate(rows if isinstance(rows, list) else ()):
        if isinstance(row, dict):
            yield f"{path}[{k}]", row


def _leaves(document: object, path: str, name: str = "") -> Iterator[tuple[str, str, object]]:
    if isinstance(document, dict):
        if document.get("type") in ("env", "vault", "file", "probe") and name:
            return
        for key, value in document.items():
            yield from _leaves(value, f"{path}.{key}", str(key))
    elif isinstance(document, list):
        for k, value in enumerate(document):
            yield from _leaves(value, f"{path}[{k}]", name)
    else:
        yield path, name, document
