"""Enrolment: a token and a request become an agent's certificate. The one call without a certificate.

Invariant: a join token works once, for the agent that it names if it names one, until it expires; only its digest is
kept. The token of a pod, where the settings allow for such, works for the agent of that pod's node
(`controller.rpc.pod`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog

from controller.pki import token_digest
from controller.rpc.agent_link import certificate
from protos import blackstart_agent_pb2 as pb
from protos import blackstart_agent_pb2_grpc as rpc
from protos.error import DeniedError

if TYPE_CHECKING:
    from controller.pki import Authority
    from controller.rpc.pod import Pods
    from controller.store.base import Store


class Enrolment(rpc.EnrolmentServicer):
    """See the module."""

    def __init__(self, store: Store, authority: Authority, pods: Pods | None = None) -> None:
        self._store, self._authority, self._pods = store, authority, pods
        self._log = structlog.get_logger("controller.enrolment")

    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.Certificate:  # noqa: N802
        del context
        answer = certificate(self._authority, request.csr_pem, request.agent_id)
        if self._pods is not None and request.token.count(".") == 2:  # a JSON Web Token: ours have no dots
            node = await self._pods.node(request.token)
            if node != request.agent_id:
                raise DeniedError(f"a pod on node {node} joins as agent {node}, and not as {request.agent_id!r}")
        elif not await self._store.use_token(token_digest(request.token), request.agent_id, time.time_ns()):
            raise DeniedError(
                f"the join token is unknown, used, expired, or meant for another agent than {request.agent_id!r}; "
                "ask an administrator for a new one (`blackstart certs join`)"
            )
        self._log.info("agent enrolled", agent=request.agent_id)
        return answer
