"""`blackstart validate`: what is wrong with files, without a controller."""

from pathlib import Path
from typing import Annotated

import typer

from blackstart.cli.connection import Json
from blackstart.cli.output import print_json
from protos.error import Exit, Problem, SpecError


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Experiments, gameday plans, profiles.")],
    json: Json = False,
) -> None:
    """Check files: syntax, structure, calls of Blackstart's functions. Shows all problems at once."""
    found = {str(file): problems_of(file) for file in files}
    if json:
        print_json(
            {
                name: [{"where": p.where, "what": p.what, "remedy": p.remedy} for p in problems]
                for name, problems in found.items()
            }
        )
        if any(found.values()):
            raise typer.Exit(Exit.BAD_INPUT)
        return
    for name, problems in found.items():
        if not problems:
            print(f"{name}: no problems")
    if any(found.values()):
        raise SpecError(*(problem for problems in found.values() for problem in problems))


def problems_of(file: Path) -> list[Problem]:
    """What is wrong with *file*; what it is, is seen from what it holds."""
    from blackstart import plan, structure
    from blackstart.cli.connection import profile_from
    from blackstart.document import load_mapping

    try:
        document = load_mapping(file)
        if "sequence" in document.content:
            plan.load(file)
        elif "objectives" in document.content and "method" not in document.content:
            profile_from(file)
        else:
            return structure.check(document)
    except SpecError as error:
        return list(error.problems)
    return []
