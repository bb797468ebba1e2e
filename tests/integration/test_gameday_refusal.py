"""A gameday whose experiment the controller does not take: it ends there, says so, and still has its report."""

from __future__ import annotations

import io
import json

from rich.console import Console

from blackstart import plan as plans
from blackstart.client import Client
from blackstart.local.gameday import Gameday
from blackstart.settings import Settings
from protos.error import Exit
from tests.integration.controller_rig import ControllerProcess

EXPERIMENT = """
version: "1.0.0"
title: {title}
description: nothing but a pause of the engine
tags: [{tag}]
method:
  - {{type: action, name: end what is left, provider: {{type: python, module: blackstart.chaos, func: revert}}}}
"""


def test_a_refused_submission_ends_the_gameday_with_a_report(tmp_path):
    for name, tag in (("first", "plain"), ("second", "dangerous"), ("third", "plain")):
        (tmp_path / f"{name}.yaml").write_text(EXPERIMENT.format(title=name, tag=tag))
    steps = "\n".join(f"  - experiment: {name}.yaml" for name in ("first", "second", "third"))
    (tmp_path / "plan.yaml").write_text(f"version: 1\ntitle: t\ndescription: d\nsequence:\n{steps}\n")
    text = io.StringIO()
    day = Gameday(plans.load(tmp_path / "plan.yaml"), tmp_path / "out", Console(file=text, width=200), {})
    with (
        ControllerProcess(tmp_path / "state") as rig,
        Client(Settings(rig.ready["address"], rig.state / "admin")) as client,
    ):
        day.run(client)
        written = day.report(client)
    assert [run.title for run in day.runs] == ["first"]
    assert "'second' could not be submitted" in day.stopped
    assert "dangerous" in day.stopped
    assert day.exit() is Exit.INCONCLUSIVE
    first, second = json.loads(written["json"].read_text())["runs"]
    assert (first["title"], second["title"]) == ("first", "second")
    assert "dangerous" in second["skipped"]
    assert "not tested" in written["html"].read_text().lower()
    assert 'skipped="1"' in written["junit"].read_text()
