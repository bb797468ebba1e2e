"""Every scenario on its test services: `python -m tests.integration.scenario_campaign` (make test-services).

Prints a line each: time, verdict beside the expected one, recovery with bounds, records lost. Ends with status 1 where
one ended otherwise than its tags say (`expects-deviation`; else it must hold). Needs root and the services' programs.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from blackstart.local import service_file, services
from blackstart.local.switch import available, enter_switch
from tests.integration.service_rig import ROOT, run

SETTLE_S = 5.0
READY_S = 90.0


def scenarios(name: str) -> list[tuple[str, bool]]:
    """(file, whether it is expected to deviate) of the scenarios for a set of services."""
    found = []
    for path in sorted((ROOT / "experiments" / "reliability").glob("*.yaml")):
        tags = yaml.safe_load(path.read_text(encoding="utf-8")).get("tags", [])
        if f"services-{name}" in tags:
            found.append((path.stem, "expects-deviation" in tags))
    return found


def told(answer: Any) -> str:
    """Recovery and losses of a run, in words."""
    document = answer["document"]
    parts = []
    for row in document["recoveries"]:
        took = row["recovery"]
        parts.append(f"{took['value']:.2f} s [{took['lo']:.2f}, {took['hi']:.2f}]" if took else "not recovered")
    parts += [f"goodput {row['share']['value']:.0%}" for row in document["shares"] if row["kind"] == "capacity"]
    parts += [f"lost {row['lost']} of {row['acknowledged']}" for row in document["losses"] if row["complete"]]
    return ", ".join(parts) or answer["run"]["reason"][:120]


def campaign(name: str, only: list[str]) -> int:
    """Runs the set's scenarios; how many ended otherwise than expected."""
    described = service_file.load(ROOT / "deploy" / "services" / f"{name}.yaml")
    if lacks := ", ".join(described.missing()):
        print(f"{name}: not tested: install {lacks}")
        return 0
    state = Path(tempfile.mkdtemp(prefix="blackstart-services-"))
    state.chmod(0o755)
    over, bad = threading.Event(), 0
    with services.ServiceBed(described, state, print) as bed:

        def watch() -> None:
            while not over.wait(0.2):
                bed.watch(time.monotonic())

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            for file, deviates in scenarios(name):
                if only and not any(part in file for part in only):
                    continue
                if not bed.ready(READY_S):
                    print(f"{file:36} the services do not get ready after what was before", flush=True)
                    bad += 1
                    continue
                begun = time.monotonic()
                _, answer = run(bed, file)
                verdict, expected = answer["run"]["verdict"], "deviated" if deviates else "held"
                bad += verdict != expected
                word = (
                    verdict
                    if verdict == expected
                    else f"{verdict}, expected {expected}: {answer['run']['reason'][:200]}"
                )
                print(f"{file:36} {time.monotonic() - begun:5.1f} s  {told(answer):50}  {word}", flush=True)
                time.sleep(SETTLE_S)
        finally:
            over.set()
            watching.join()
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", nargs="*", help="sets; default: all of deploy/services")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the scenarios' names")
    asked = parser.parse_args()
    if lacks := available():
        print(f"not tested: {lacks}")
        return 0
    enter_switch()
    names = asked.services or sorted(path.stem for path in (ROOT / "deploy" / "services").glob("*.yaml"))
    bad = sum(campaign(name, asked.only) for name in names)
    print(f"{bad} ended otherwise than expected")
    return int(bad > 0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
