"""`blackstart encode`: what measured encoding says of a fleet, and of another run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blackstart.cli.connection import Json, connect, profile_from
from blackstart.cli.output import print_json, print_table, working
from protos.error import Problem, RefusedError, SpecError

if TYPE_CHECKING:
    from experiments.performance.model.plan import Failures, Plan
    from experiments.performance.model.projection import Service

app = typer.Typer(
    no_args_is_help=True, help="Measured encoding: a fleet that it would take, scores beside another run."
)
_PROFILE = Path(__file__).parents[2] / "experiments" / "profiles" / "dailydoco.yaml"
Measured = Annotated[str, typer.Option("--measured", metavar="RUN", help="A run's id, or its JSON report.")]
Agent = Annotated[str, typer.Option("--agent", metavar="ID", help="Of a run with several: whose encoding.")]


@app.command()
def project(
    context: typer.Context,
    measured: Measured,
    agent: Agent = "",
    profile: Annotated[Path, typer.Option(metavar="FILE", help="Whose demand it is.")] = _PROFILE,
    gpu: Annotated[
        str, typer.Option(metavar="NAME", help="GPUs of that model encode, by NVENC; else nodes as measured.")
    ] = "",
    assume_speed: Annotated[
        float, typer.Option(min=0, help="How much faster one NVENC is than what was measured; where no GPU was.")
    ] = 0.0,
    assume_source: Annotated[str, typer.Option(metavar="TEXT", help="Where that number comes from.")] = "",
    decode_share: Annotated[float, typer.Option(min=0, max=10, help="Of a job's encoding time, on a decoder.")] = 0.3,
    mtbf_h: Annotated[
        float, typer.Option(min=0, help="Hours between two failures of a node, on average. 0: none.")
    ] = 0.0,
    mtbf_source: Annotated[str, typer.Option(metavar="TEXT", help="Where that number comes from.")] = "",
    recovery: Annotated[str, typer.Option(metavar="RUN", help="Whose measured recoveries a failed node takes.")] = "",
    slots: Annotated[int, typer.Option(min=0, max=256, help="Jobs at a time on a node; 0: as is best.")] = 0,
    replications: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    json: Json = False,
) -> None:
    """Nodes or GPUs that the profile's demand needs, modelled from measured service times."""
    from experiments.performance.model import plan as planning
    from experiments.performance.model import projection

    for name, value in (("--mtbf-h", mtbf_h), ("--assume-speed", assume_speed), ("--decode-share", decode_share)):
        if not math.isfinite(value):
            raise SpecError(Problem(name, f"{value} is no number"))
    document = profile_from(profile)
    assert document is not None
    demand = planning.demand_of(document, str(profile))
    result = _result(_load(context, measured), measured, agent)
    try:
        service = projection.service_of(result)
    except ValueError as error:
        raise SpecError(Problem(measured, str(error))) from error
    service = planning.stretched(service, _length_s(result, measured), demand.duration_s)
    if gpu:
        service = _of_gpus(service, result, gpu, assume_speed, assume_source, decode_share)
    if slots > len(service.slowdown):
        raise SpecError(
            Problem("--slots", f"{slots} jobs at a time were not measured, but up to {len(service.slowdown)}")
        )
    failures = _failures(context, mtbf_h, mtbf_source, recovery)
    with working("simulating the busiest hour") as say:
        found = planning.plan(
            service, demand, replications=replications, seed=seed, failures=failures, slots=slots, say=say
        )
    _show(found, gpu or "nodes like the measured one", demand.turnaround_p95_s, as_json=json)


@app.command()
def score(context: typer.Context, run: str, reference: str, agent: Agent = "", json: Json = False) -> None:
    """Speed, bitrate and quality of RUN over those of REFERENCE; above 1 is better."""
    from experiments.performance.model.scores import scores

    rows = scores(_result(_load(context, run), run, agent), _result(_load(context, reference), reference, agent))
    if json:
        print_json([{name: getattr(row, name) for name in row.__slots__} for row in rows])
        return
    print_table(
        ("rendition", "input", "S speed", "B bitrate", "Q quality"),
        [(row.rung, row.input, f"{row.speed:.3f}", f"{row.bitrate:.3f}", f"{row.quality:.3f}") for row in rows],
        "nothing in common",
    )


def _load(context: typer.Context, name: str) -> dict[str, Any]:
    """The run's document: from a JSON report in a file of that name, else from the controller."""
    if Path(name).is_file():
        from blackstart.document import load_mapping

        runs = load_mapping(Path(name)).content.get("runs")
        if not isinstance(runs, list) or len(runs) != 1:
            raise SpecError(Problem(name, "is no report of one run", "blackstart runs report RUN -o FILE"))
        return dict(runs[0])
    if "/" in name or name.endswith(".json"):
        raise SpecError(Problem(name, "is no file that can be read", "blackstart runs report RUN -o FILE"))
    with connect(context) as client:
        return dict(client.show(name)[1])


def _result(document: dict[str, Any], name: str, agent: str) -> dict[str, Any]:
    """What the run's encode workload told; the last one, if there are several."""
    rows = [
        row for row in document.get("workloads") or () if row["kind"] == "encode" and agent in ("", row["agent_id"])
    ]
    if not rows:
        remedy = "blackstart run experiments/performance/encode-node.yaml"
        raise SpecError(Problem(name, "holds no encode workload" + (f" of {agent}" if agent else ""), remedy))
    if len({row["agent_id"] for row in rows}) > 1:
        there = ", ".join(dict.fromkeys(row["agent_id"] for row in rows))
        raise SpecError(Problem(name, "several agents encoded", f"--agent, one of {there}"))
    return dict(rows[-1]["detail"])


def _length_s(result: dict[str, Any], name: str) -> float:
    """Playing time of the videos that were measured, on average."""
    level = next(one for one in result["levels"] if one["jobs"] == 1 and one["done"])
    if not level["rtf"]["n"]:
        raise SpecError(Problem(name, "no video was encoded by itself"))
    return float(level["media_s"])


def _of_gpus(
    service: Service, result: dict[str, Any], name: str, speed: float, source: str, decode_share: float
) -> Service:  # fmt: skip
    """Service times on such a GPU: as measured there, else as assumed."""
    from experiments.performance.model import hardware, plan

    gpu = hardware.encoding(name)
    used = sorted({one["encoder"] for one in result["encoders"].values()})
    there = {row["name"] for level in result["levels"] for row in level["gpus"]}
    if all(one.endswith("_nvenc") for one in used) and there and all(name in one.split() for one in there):
        return service
    if speed and not source:
        raise SpecError(Problem("--assume-speed", "needs --assume-source", "say where that number comes from"))
    if not (speed and source):
        where = f"by {', '.join(used)}" + (f" on {', '.join(there)}" if there else ": not available: no GPU")
        remedy = f"run encode-node on a node with {name}s, or say --assume-speed and --assume-source"
        raise RefusedError(f"these service times were not measured on {name}s, but {where}; {remedy}")
    return plan.on_engines(service, gpu, speed, decode_share, source)


def _failures(context: typer.Context, mtbf_h: float, source: str, recovery: str) -> Failures | None:
    from experiments.performance.model.plan import Failures

    if not mtbf_h:
        return None
    if not source or not recovery:
        raise SpecError(
            Problem("--mtbf-h", "needs --mtbf-source and --recovery", "an assumed rate says where it is from")
        )
    rows = _load(context, recovery).get("recoveries") or ()
    took = [float(row["recovery"]["value"]) for row in rows if row["recovery"]]
    if not took:
        raise SpecError(Problem(recovery, "measured no recovery", "name a run that did"))
    return Failures(mtbf_h * 3600, source, tuple(took), recovery)


def _show(found: Plan, what: str, limit_s: float, *, as_json: bool) -> None:
    from protos.figure import Figure, Modelled

    origin = Modelled("fleet simulation of the busiest hour (docs/encode.md)", found.inputs)
    low, high = found.interval
    figures = [
        Figure(f"{what}: needed", found.median, "count", origin),
        Figure(f"{what}: needed, least of 95 % of replications", low, "count", origin),
        Figure(f"{what}: needed, most of 95 % of replications", high, "count", origin),
        Figure("that most, and one that may be out", high + 1, "count", origin),
        Figure("videos that come in the busiest hour", found.rate, "videos/s", origin),
        Figure("busy", found.busy, "fraction", origin), Figure("mean wait", found.wait_s, "s", origin),
        Figure(f"turnaround p95 (objective {limit_s:g} s)", found.turnaround_p95_s, "s", origin),
    ]  # fmt: skip
    if as_json:
        print_json([figure.document() for figure in figures])
        return
    print_table(("figure", "value", "unit"), [(one.name, f"{one.value:.4g}", one.unit) for one in figures], "")
    print("modelled, nothing of it measured on a fleet; from:")
    for text in found.inputs:
        print(f"  {text}")
