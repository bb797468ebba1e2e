"""An experiment tagged dangerous: refused until a second person has approved exactly it, however it is started."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
import yaml

from protos import blackstart_operator_pb2 as op
from protos.error import DeniedError, RefusedError, SpecError, from_rpc
from tests.integration.controller_rig import (
    INJECT,
    RECOVERY,
    TARGETS,
    ControllerProcess,
    ScriptedAgent,
    call,
    ended,
    experiment,
    submission,
    until,
)  # fmt: skip

DANGEROUS = experiment(INJECT, RECOVERY, tags=["dangerous"], configuration={"port": 80})


@pytest.fixture
def rig(tmp_path):
    with ControllerProcess(tmp_path / "state") as process:
        yield process


def asked(document=DANGEROUS, **variables):
    request = submission(document)
    request.variables.update(variables)
    return request


async def approve(operator, document=DANGEROUS, **variables):
    return await operator.Approve(op.ApproveRequest(run=asked(document, **variables)))


async def refusal(awaited, kind=RefusedError):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaited
    error = from_rpc(caught.value)
    assert isinstance(error, kind), error
    return str(error)


async def test_it_runs_once_after_somebody_else_has_approved_it(rig):
    ann = rig.certificate("ann", "operator")
    async with rig.operator() as admin, rig.operator(ann) as operator, ScriptedAgent(rig).connected() as agent:
        text = await refusal(operator.Submit(asked()))
        assert "tagged dangerous and nobody has approved exactly this document" in text
        assert "another operator or admin than ann must run `blackstart approve x.yaml`" in text
        await approve(operator)
        assert "ann's own approval does not count" in await refusal(operator.Submit(asked()))
        assert agent.kinds() == []
        given = await approve(admin)
        assert (given.approver, given.title, given.source) == ("admin", "t", "x.yaml")
        assert given.expires_wall_ns - given.approved_wall_ns == 24 * 3600 * 10**9
        run, events = await ended(operator, (await operator.Submit(asked())).id)
        assert run.verdict == "held", run.reason
        assert "approved by admin" in events[0].message
        rows = (await operator.ListApprovals(op.ListApprovalsRequest())).approvals
        assert [(row.approver, row.run_id) for row in rows] == [("admin", run.id), ("ann", "")]
        assert "ann's own approval" in await refusal(operator.Submit(asked())), "one approval serves one run"
        records = (await admin.ListAudit(op.ListAuditRequest())).records
        assert ("admin", "Approve", "x.yaml", "ok") in [(r.actor, r.method, r.subject, r.outcome) for r in records]


async def test_another_document_or_another_value_is_not_what_was_approved(rig):
    ann = rig.certificate("ann", "operator")
    async with rig.operator() as admin, rig.operator(ann) as operator, ScriptedAgent(rig).connected():
        await approve(admin)
        assert "nobody has approved" in await refusal(operator.Submit(asked(port="81")))
        assert "nobody has approved" in await refusal(operator.Submit(asked(DANGEROUS | {"description": "other"})))
        await operator.Submit(asked(port="80"))  # the default, said aloud


async def test_an_approval_expires(rig):
    ann = rig.certificate("ann", "operator")
    async with rig.operator() as admin, rig.operator(ann) as operator, ScriptedAgent(rig).connected():
        await admin.Approve(op.ApproveRequest(run=asked(), valid_s=0.2))
        await asyncio.sleep(0.3)
        assert "the approval by admin has expired" in await refusal(operator.Submit(asked()))


async def test_who_may_approve_and_what(rig):
    eve = rig.certificate("eve", "viewer")
    async with rig.operator() as admin, rig.operator(eve) as viewer, ScriptedAgent(rig).connected():
        await refusal(approve(viewer), DeniedError)
        await viewer.ListApprovals(op.ListApprovalsRequest())
        assert "is not tagged dangerous" in await refusal(approve(admin, experiment(INJECT)), SpecError)
        text = await refusal(admin.Approve(op.ApproveRequest(run=asked(), valid_s=1e9)), SpecError)
        assert "out of range" in text


async def test_a_dry_run_says_what_is_missing(rig):
    async with rig.operator() as admin, ScriptedAgent(rig).connected():
        plan = json.loads((await admin.Plan(asked())).plan_json)
        assert plan["approval"]["needed"] is True
        assert "another operator or admin than admin must run" in plan["approval"]["missing"]
        assert plan["problems"] == [plan["approval"]["missing"]]


async def test_an_external_driver_needs_it_too(rig):
    ann = rig.certificate("ann", "operator")
    async with rig.operator() as admin, rig.operator(ann) as operator, ScriptedAgent(rig).connected():
        assert "tagged dangerous" in await refusal(operator.OpenRun(asked()))
        await approve(admin)
        assert (await operator.OpenRun(asked())).state == "running"


async def test_who_added_a_schedule_counts_as_the_submitter(rig):
    ann = rig.certificate("ann", "operator")
    async with rig.operator() as admin, rig.operator(ann) as operator, ScriptedAgent(rig).connected():
        await approve(operator)
        for name in ("own", "other"):
            at_ns = time.time_ns() + int(0.7e9)
            await operator.AddSchedule(op.AddScheduleRequest(name=name, at_wall_ns=at_ns, run=asked()))
            await asyncio.sleep(1.5)
            runs = (await operator.ListRuns(op.ListRunsRequest())).runs
            assert [run.actor for run in runs] == ([] if name == "own" else ["schedule other"])
            if name == "own":
                await approve(admin)


async def test_stock_chaos_run_opens_what_was_approved_by_file(rig, tmp_path):
    """The engine adds to the document before the control sees it: the digest must not depend on that."""
    telemetry = {"name": "telemetry", "provider": {"type": "python", "module": "blackstart.chaos.telemetry"}}
    document = experiment(
        call("inject", fault="process.kill", targets=TARGETS, spec={"pid": "${pid}"}, duration_s=9),
        tags=["dangerous"], configuration={"pid": 7, "ratio": 0.5, "on": True}, controls=[telemetry],
    )  # fmt: skip
    document["steady-state-hypothesis"]["probes"][0]["provider"]["arguments"]["window_s"] = 0.1
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(document))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BLACKSTART")}
    environ = kept | {"BLACKSTART_CONTROLLER": rig.ready["address"]}
    certs = {"ann": rig.certificate("ann", "operator"), "admin": rig.state / "admin"}

    async def program(who, name, *arguments):
        command = [str(Path(sys.executable).parent / name), *arguments]
        variables = environ | {"BLACKSTART_CERTS": str(certs[who])}
        options = {"env": variables, "cwd": tmp_path, "capture_output": True, "text": True, "timeout": 60}
        return await asyncio.to_thread(subprocess.run, command, check=False, **options)

    async with rig.operator() as operator, ScriptedAgent(rig, faults=("process.kill",)).connected():
        done = await program("ann", "chaos", "run", str(path))
        assert "tagged dangerous" in done.stdout + done.stderr
        approved = await program("admin", "blackstart", "approve", str(path))
        assert approved.returncode == 0, approved.stderr
        await program("ann", "chaos", "run", str(path))

        async def opened():
            return [run.actor for run in (await operator.ListRuns(op.ListRunsRequest())).runs] == ["ann"]

        await until(opened)
