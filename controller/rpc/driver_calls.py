"""The calls of run drivers: open a run, carry out a function, close the run."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from controller.rpc.auth import caller
from controller.rpc.convert import run_message
from protos import blackstart_operator_pb2 as pb
from protos import blackstart_operator_pb2_grpc as rpc
from protos.error import DeniedError, SpecError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from controller.run.intake import Intake
    from controller.run.machine import Machine
    from controller.store.base import RunRecord, Store

Json = dict[str, Any]


class DriverCalls(rpc.OperatorServicer):
    """A part of `controller.rpc.operator.Operator`."""

    _machine: Machine
    _intake: Intake
    _store: Store

    async def OpenRun(self, request: pb.SubmitRequest, context: Any) -> pb.Run:  # noqa: N802
        del context
        identity = caller.get()
        if identity.role == "runner":
            return run_message(await self._record(identity.name))
        what = self._intake.read(request, identity.name, external=True)
        return run_message(await self._machine.submit(what, external=True))

    async def Invoke(self, request: pb.InvokeRequest, context: Any) -> AsyncIterator[pb.InvokeReply]:  # noqa: N802
        del context
        await self._own(request.run_id)
        arguments = decoded(request.arguments_json, "arguments")
        lines: asyncio.Queue[str] = asyncio.Queue()
        call = asyncio.create_task(self._machine.invoke(request.run_id, request.function, arguments, lines.put_nowait))
        try:
            while not call.done() or not lines.empty():
                line = asyncio.create_task(lines.get())
                await asyncio.wait({call, line}, return_when=asyncio.FIRST_COMPLETED)
                if line.done():
                    yield pb.InvokeReply(progress=line.result())
                else:
                    line.cancel()
            yield pb.InvokeReply(result_json=json.dumps(await call).encode(), done=True)
        finally:
            call.cancel()

    async def CloseRun(self, request: pb.CloseRunRequest, context: Any) -> pb.Run:  # noqa: N802
        del context
        await self._own(request.run_id)
        return run_message(await self._machine.close(request.run_id, decoded(request.journal_json, "journal")))

    async def _record(self, run_id: str) -> RunRecord:
        record = await self._store.run(run_id)
        if record is None:
            raise SpecError(f"no run {run_id!r}; see `blackstart runs list`")
        return record

    async def _own(self, run_id: str) -> RunRecord:
        """The run, if the caller drives it: its runner, who opened it, or an administrator."""
        record, identity = await self._record(run_id), caller.get()
        if identity.role in ("runner", "admin") or record.actor == identity.name:
            return record
        raise DeniedError(f"run {run_id} belongs to {record.actor}; {identity.name} cannot drive it")


def decoded(content: bytes, what: str) -> Json:
    """A JSON object; SpecError for anything else."""
    try:
        document = json.loads(content or b"{}")
    except ValueError as error:
        raise SpecError(f"{what}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SpecError(f"{what}: not a JSON object")
    return document
