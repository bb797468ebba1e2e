"""From a request to a submission: parsed, linted, with its profile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from controller.run.lint import Allowed, lint, lint_faults
from controller.run.machine import Submission
from controller.run.variable import substituted, typed
from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from controller.fleet import Fleet
    from protos import blackstart_operator_pb2 as pb

Json = dict[str, Any]


class Intake:
    """*profile* is what a run without one of its own gets; *modules* what its experiment may name."""

    def __init__(self, fleet: Fleet, profile: Json, modules: tuple[str, ...]) -> None:
        self._fleet, self._profile, self._modules = fleet, profile, modules

    def read(self, request: pb.SubmitRequest, actor: str, *, external: bool = False) -> Submission:
        """SpecError with every problem of the document and of the variables."""
        experiment = _object(request.experiment_json, f"{request.source or 'experiment'}: (top)")
        profile = _object(request.profile_json.encode(), "profile") if request.profile_json else self._profile
        problems: list[Problem] = []
        for check in (
            lambda: lint(experiment, self._allowed(external), request.source),
            lambda: typed(experiment, request.variables),
        ):
            try:
                check()
            except SpecError as error:
                problems += error.problems
        if problems and not (external and all("configuration has none" in p.what for p in problems)):
            raise SpecError(*problems)
        if not external:  # whose variables are put in place by somebody else
            filled = substituted(experiment, experiment, request.variables)
            lint_faults(filled, self._allowed(external), request.source)
        known = experiment.get("configuration") or {}
        variables = {name: text for name, text in request.variables.items() if name in known}
        return Submission(experiment, request.source, variables, profile, actor, submitter=actor)

    def _allowed(self, external: bool) -> Allowed:
        kinds = {c["kind"] for m in self._fleet.members() for c in m.capabilities if c["family"] == "fault"}
        return Allowed(self._modules, kinds or None, external)


def _object(content: bytes, where: str) -> Json:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise SpecError(Problem(where, f"is not JSON: {error}")) from error
    if not isinstance(document, dict):
        raise SpecError(Problem(where, "is not a mapping"))
    return document
