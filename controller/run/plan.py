"""The dry run: which agents each step would reach, and which effects it would have there. Touches nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from controller.run import picking, recovering, shaping, signature
from controller.run.variable import substituted
from controller.selector import parse, select
from protos.error import BlackstartError, Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.run.reach import Reach

Json = dict[str, Any]
PLAN_S: Final = 15.0
_LATELY_S: Final = 60.0
_RETURN_S: Final = 5.0
_FAMILIES: Final = {"inject": "fault", "start_probe": "probe", "steady": "probe", "run_workload": "workload"}


async def plan(
    reach: Reach, experiment: Json, variables: Mapping[str, str], *, profile: Json | None = None, seed: int = 0
) -> Json:
    """`{title, seed, steps: [{path, name, function, kind, targets, agents, effects, problem}], problems}`.

    The seed of a run is drawn at its submission: a selector that picks some of several agents and has no seed of its
    own may pick others then; such steps have `drawn: true`.
    """
    document = substituted(experiment, experiment, variables)
    steps = [
        await _step(reach, path, name, function, arguments, seed)
        for path, name, function, arguments in signature.calls(document)
        if function in _FAMILIES
    ]
    problems = [f"{step['path']}: {step['problem']}" for step in steps if step["problem"]]
    problems += map(str, _objectives(document, profile or {}, ""))
    return {"title": document.get("title", ""), "steps": steps, "problems": problems}


async def check_targets(reach: Reach, experiment: Json, variables: Mapping[str, str], source: str = "") -> None:
    """SpecError with every step that would reach nobody, or fewer agents than it asks for.

    Agents that were there a moment ago, such as those that the run before had cut off, are waited for.
    """
    document = substituted(experiment, experiment, variables)
    if problems := _nobody(reach, document, source):
        since_ns = time.time_ns() - int(_LATELY_S * 1e9)
        away = [m.id for m in reach.fleet.members() if not m.connected and m.seen_wall_ns > since_ns]
        await reach.fleet.wait_for(away, _RETURN_S)
        problems = _nobody(reach, document, source)
    if problems:
        raise SpecError(*problems)


def check_objectives(experiment: Json, variables: Mapping[str, str], profile: Json, source: str = "") -> None:
    """SpecError with every objective that a step names and *profile* lacks: before the fault, not after it."""
    document = substituted(experiment, experiment, variables)
    if problems := _objectives(document, profile, f"{source or 'experiment'}: "):
        raise SpecError(*problems)


def _objectives(document: Json, profile: Json, prefix: str) -> list[Problem]:
    problems = []
    for path, _, function, arguments in signature.calls(document):
        name, fields = arguments.get("objective"), recovering.OBJECTIVE_FIELDS.get(function)
        known = fields and isinstance(name, str) and name and "${" not in name
        if known and fields and (lack := recovering.lacking(profile, str(name), fields)):
            problems.append(Problem(f"{prefix}{path}.objective", lack, "give the profile that has it: --profile"))
    return problems


def _nobody(reach: Reach, document: Json, source: str) -> list[Problem]:
    problems: list[Problem] = []
    for path, _, function, arguments in signature.calls(document):
        family = _FAMILIES.get(function)
        if family is None or "${" in str(arguments.get("targets")):
            continue
        kind = str(arguments.get("fault" if family == "fault" else "kind", ""))
        try:
            select(parse(arguments.get("targets")), reach.fleet.candidates(family, kind), seed=0, kind=kind)
        except SpecError as error:
            place = f"{source or 'experiment'}: {path}"
            problems += [Problem(f"{place}.{one.where}", one.what, one.remedy) for one in error.problems]
    return problems


async def _step(reach: Reach, path: str, name: str, function: str, arguments: Json, seed: int) -> Json:
    family = _FAMILIES[function]
    kind = str(arguments.get("fault" if family == "fault" else "kind", ""))
    step: Json = {
        "path": path.removesuffix(".provider.arguments"), "name": name, "function": function, "kind": kind,
        "targets": "", "agents": [], "effects": [], "drawn": False, "problem": "",
        "duration_s": arguments.get("duration_s"),
    }  # fmt: skip
    try:
        selector, step["agents"] = await picking.pick(
            reach, family, kind, arguments.get("targets"), seed=seed, place=f"{path}.targets"
        )
        step["targets"] = str(selector)
        able = [agent for agent in reach.fleet.candidates(family, kind) if not agent.missing]
        step["drawn"] = selector.seed is None and len(step["agents"]) < len(able)
        if family == "fault":
            step["effects"] = await _effects(reach, kind, arguments, seed)
    except BlackstartError as error:
        step["problem"] = str(error)
    return step


async def _effects(reach: Reach, fault: str, arguments: Json, seed: int) -> list[Json]:
    specs, _ = await shaping.specs(reach, seed, fault, arguments.get("targets"), arguments.get("spec") or {})
    order = {"fault": fault, "duration_s": arguments.get("duration_s", 300)}
    each = {agent: {"spec": spec} for agent, spec in specs.items()}
    answers = await reach.dispatch.order_all(specs, "fault.plan", order, timeout_s=PLAN_S, each=each)
    effects = []
    for agent, answer in answers.items():
        if isinstance(answer, BlackstartError):
            raise answer
        effects += [effect | {"agent_id": agent} for effect in answer.get("effects", ())]
    return effects
