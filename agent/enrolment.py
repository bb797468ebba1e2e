"""Joining a controller: a one-time token and a certificate request, over a channel that trusts the join file's CA."""

from __future__ import annotations

import json
from pathlib import Path

import grpc

from protos import blackstart_agent_pb2 as pb
from protos import channel, credential
from protos.blackstart_agent_pb2_grpc import EnrolmentStub
from protos.error import Problem, SpecError, from_rpc

_TIMEOUT_S = 20.0


def enrol(join_file: Path, agent_id: str, directory: Path) -> str:
    """Writes key and certificate into *directory*; the controller's address. The key never leaves this node."""
    try:
        join = json.loads(join_file.read_text(encoding="utf-8"))
        token, address, ca_pem = str(join["token"]), str(join["enrol_address"]), str(join["ca_pem"]).encode()
    except OSError as error:
        raise SpecError(Problem(str(join_file), f"cannot read the join file: {error.strerror}")) from error
    except (ValueError, KeyError, TypeError) as error:
        remedy = "make one by `blackstart certs join-token`"
        raise SpecError(Problem(str(join_file), f"not a join file: {error}", remedy)) from error
    key_pem, csr_pem = credential.new_key_and_csr(agent_id)
    trusting = grpc.ssl_channel_credentials(root_certificates=ca_pem)
    with grpc.secure_channel(address, trusting, options=channel.CHANNEL_OPTIONS) as link:
        request = pb.EnrolRequest(token=token, agent_id=agent_id, csr_pem=csr_pem)
        try:
            fresh = EnrolmentStub(link).Enrol(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise from_rpc(error) from error
    credential.write_credential(directory, fresh.certificate_pem, key_pem, fresh.ca_pem)
    return str(join.get("address", ""))
