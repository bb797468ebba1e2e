"""Enrolment: a one-time join token and a request become an agent's certificate. The one call without a certificate.

Invariant: a token works once, for the agent that it names if it names one, until it expires; only its digest is kept.
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
    from controller.store.base import Store


class Enrolment(rpc.EnrolmentServicer):
    """See the module."""

    def __init__(self, store: Store, authority: Authority) -> None:
        self._store, self._authority = store, authority
        self._log = structlog.get_logger("controller.enrolment")

    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.Certificate:  # noqa: N802
        del context
        answer = certificate(self._authority, request.csr_pem, request.agent_id)
        if not await self._store.use_token(token_digest(request.token), request.agent_id, time.time_ns()):
            raise DeniedError(
                f"the join token is unknown, used, expired, or meant for another agent than {request.agent_id!r}; "
                "ask an administrator for a new one (`blackstart certs join`)"
            )
        self._log.info("agent enrolled", agent=request.agent_id)
        return answer
