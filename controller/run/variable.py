"""An experiment's variables: `${name}` in arguments, and the values given at submission. Pure."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]
_WHOLE: Final = re.compile(r"\$\{([^}]+)\}")
_HANDED_ON: Final = ("BLACKSTART_FARM", "BLACKSTART_VAR_")
_TRUE, _FALSE = frozenset({"true", "yes", "1", "on"}), frozenset({"false", "no", "0", "off"})


def typed(experiment: Json, variables: Mapping[str, str]) -> Json:
    """*variables* in the types of the defaults that they replace; SpecError for unknown names and misfits, all at once.

    A command line gives text; Chaos Toolkit puts what it is given in place unchanged.
    """
    defaults = experiment.get("configuration") or {}
    problems, values = [], {}
    for name, text in variables.items():
        if name not in defaults:
            known = ", ".join(sorted(defaults)) or "none"
            problems.append(Problem(f"variable {name}", "the experiment's configuration has none", f"it has: {known}"))
            continue
        try:
            values[name] = _like(_default(defaults[name]), text)
        except ValueError:
            like = type(_default(defaults[name])).__name__
            problems.append(Problem(f"variable {name}", f"{text!r} is not of the default's type, {like}"))
    if problems:
        raise SpecError(*problems)
    return values


def effective(experiment: Json, variables: Mapping[str, str]) -> Json:
    """The value that every variable will have, as far as it is known here."""
    return {name: _here(value) for name, value in (experiment.get("configuration") or {}).items()} | typed(
        experiment, variables
    )


def substituted(document: Any, experiment: Json, variables: Mapping[str, str]) -> Any:
    """*document* with every `${name}` replaced as the engine will; what only the engine can know stays as it is."""
    return _replaced(document, effective(experiment, variables))


def _replaced(document: Any, values: Json) -> Any:
    if isinstance(document, dict):
        return {key: _replaced(value, values) for key, value in document.items()}
    if isinstance(document, list):
        return [_replaced(value, values) for value in document]
    if not isinstance(document, str):
        return document
    if (whole := _WHOLE.fullmatch(document)) and whole[1] in values:
        return values[whole[1]]
    return _WHOLE.sub(lambda found: str(values.get(found[1], found[0])), document)


def _here(value: Any) -> Any:
    """As `_default`, but what a run would find in the environment that the controller hands on."""
    if isinstance(value, dict) and value.get("type") == "env":
        key = str(value.get("key", ""))
        if key.startswith(_HANDED_ON) and key in os.environ:
            return os.environ[key]
    return _default(value)


def _default(value: Any) -> Any:
    return value.get("default") if isinstance(value, dict) and value.get("type") == "env" else value


def _like(default: Any, text: str) -> Any:
    if isinstance(default, bool):
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError(text)
    if isinstance(default, int):
        return int(text) if re.fullmatch(r"[+-]?\d+", text.strip()) else float(text)
    return float(text) if isinstance(default, float) else text
