"""Renews the agent's certificate: `python -m agent.renewal DIRECTORY AGENT_ID CONTROLLER`.

A process of its own, every few minutes, so that the agent need not hold the parser of certificates. Says what it did in
one line; exit code 2 with the reason when it could not.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from protos import channel, credential  # before grpc, whose cipher suites it sets

import grpc  # isort: skip

from protos import blackstart_agent_pb2 as pb
from protos.blackstart_agent_pb2_grpc import AgentLinkStub
from protos.error import BlackstartError, from_rpc

_TIMEOUT_S = 20.0


def renew(directory: Path, agent_id: str, controller: str) -> str:
    """Fetches a new certificate at two thirds of the old one's life; what was done."""
    held = credential.load_credential(directory)
    if not credential.renewal_due(held.cert_pem, time.time()):
        return ""
    key_pem, csr_pem = credential.new_key_and_csr(agent_id)
    trusted = channel.channel_credentials(held.cert_pem, held.key_pem, held.ca_pem)
    with grpc.secure_channel(controller, trusted, options=channel.CHANNEL_OPTIONS) as link:
        try:
            fresh = AgentLinkStub(link).Renew(pb.CertificateRequest(csr_pem=csr_pem), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise from_rpc(error) from error
    credential.write_credential(directory, fresh.certificate_pem, key_pem, fresh.ca_pem)
    return f"certificate renewed, valid until {time.strftime('%Y-%m-%d %H:%M', time.gmtime(fresh.not_after_s))} UTC"


def main(argv: list[str]) -> int:
    try:
        print(renew(Path(argv[0]), argv[1], argv[2]))
    except BlackstartError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
