"""What calls in an experiment ask of each other: names that must be started before, and orders that make sense. Pure.

Invariant: what stands in a variable is not judged. A hypothesis that asks for what is not there is not established, and
nothing is injected: it is not judged either.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any, Final

Json = dict[str, Any]
MODULE: Final = "blackstart.chaos"
_LISTS: Final = {"phases": "events", "cascade": "probes"}


def calls(experiment: Json, functions: Container[str]) -> Iterator[tuple[str, str, str, Json]]:
    """Every call of one of *functions*, in the order of the run; what is malformed is passed over.

    Yields:
        The path of its arguments, the step's name, the function, the arguments.
    """
    hypothesis = experiment.get("steady-state-hypothesis")
    probes = hypothesis.get("probes") if isinstance(hypothesis, dict) else None
    for part, rows in (
        ("steady-state-hypothesis.probes", probes),
        ("method", experiment.get("method")),
        ("rollbacks", experiment.get("rollbacks")),
    ):
        for k, row in enumerate(rows if isinstance(rows, list) else ()):
            provider = row.get("provider") if isinstance(row, dict) else None
            if not isinstance(provider, dict) or provider.get("module") != MODULE:
                continue
            function, arguments = provider.get("func"), provider.get("arguments") or {}
            if isinstance(function, str) and function in functions and isinstance(arguments, dict):
                yield f"{part}[{k}].provider.arguments", str(row.get("name", "")), function, arguments


def unknown(experiment: Json, functions: Container[str]) -> Iterator[tuple[str, str, str]]:
    """(path, what is wrong, remedy) of every name that is asked for and not started before."""
    known: set[tuple[str, str]] = set()
    for path, _, function, arguments in calls(experiment, functions):
        asked = () if path.startswith("steady-state-hypothesis") else _asks(function, arguments)
        for argument, family, name in asked:
            names = sorted(one for kind, one in known if kind == family)
            unsure = not isinstance(name, str) or any("${" in one for one in (name, *names))
            if not unsure and name not in names:
                what = f"no {family} of the name {name!r} is started before"
                yield f"{path}.{argument}", what, f"there are: {', '.join(names) or 'none'}"
        family, name = _begins(function, arguments)
        if function == "inject" and not arguments.get("name"):  # as the driver names them: process.kill-2
            count = sum(one == name or one.startswith(f"{name}-") for kind, one in known if kind == family)
            name = f"{name}-{count + 1}" if count else name
        known.add((family, name))


def order_problem(probes: object, order: object) -> str:
    """What is wrong with the arguments of `cascade`, in words; empty where they make sense."""
    if not isinstance(probes, list) or not all(isinstance(name, str) for name in probes) or len(probes) < 2:
        return "probes is not a list of at least two names"
    if len(set(probes)) < len(probes):
        return "probes names a probe twice"
    if order is None:
        return ""
    rows = [[one] if isinstance(one, str) else one for one in order] if isinstance(order, list) else []
    if not rows or not all(isinstance(row, list) and row and all(isinstance(one, str) for one in row) for row in rows):
        return "order is not a list of names, or of lists of names that may fail together"
    names = [name for row in rows for name in row]
    if wrong := [name for name in names if name not in probes]:
        return f"order names {', '.join(wrong)}, and probes does not"
    return "order names a probe twice" if len(set(names)) < len(names) else ""


def order_problems(experiment: Json, functions: Container[str]) -> Iterator[tuple[str, str, str]]:
    """As `unknown`, of the orders that calls of `cascade` expect."""
    for path, _, function, arguments in calls(experiment, functions):
        lists = (arguments.get("probes"), arguments.get("order"))
        if function == "cascade" and "${" not in str(lists) and (wrong := order_problem(*lists)):
            yield path, wrong, "as in probes: [database, encode], order: [database, encode]"


def _begins(function: str, arguments: Json) -> tuple[str, str]:
    """(family, name) of what a call starts; of an injection without a name, its kind."""
    family = {"start_probe": "probe", "steady": "probe", "inject": "injection"}.get(function, "")
    return family, str(arguments.get("name") or arguments.get("fault") or "")


def _asks(function: str, arguments: Json) -> Iterator[tuple[str, str, object]]:
    """(argument, family, name) of everything that a call expects to be there."""
    if arguments.get("probe") is not None:
        yield "probe", "probe", arguments["probe"]
    if arguments.get("after") is not None:
        yield "after", "injection", arguments["after"]
    if function == "revert" and arguments.get("name") is not None:
        yield "name", "injection", arguments["name"]
    several = arguments.get(_LISTS[function]) if function in _LISTS else None
    for name in several if isinstance(several, list) else ():
        yield _LISTS[function], "probe", name
