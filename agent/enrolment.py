"""Joining a controller: a token and a certificate request, over a channel that trusts the join file's CA.

The token stands in the join file and works once, or the join file names a file that has it (`token_file`): the token of
a pod's service account, which the controller has the cluster review, and which is another one every hour.
"""

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
        held = Path(str(join["token_file"])) if "token_file" in join else None
        token = held.read_text(encoding="ascii").strip() if held else str(join["token"])
        address, ca_pem = str(join["enrol_address"]), str(join["ca_pem"]).encode()
    except OSError as error:
        raise SpecError(Problem(str(error.filename), f"cannot read the join file: {error.strerror}")) from error
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


def joined(join_file: Path, agent_id: str, directory: Path) -> bool:
    """Whether *directory* has a certificate of *agent_id* that is valid now, by the join file's authority."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.x509.oid import NameOID

    try:
        held = credential.load_credential(directory)
        authority = x509.load_pem_x509_certificate(json.loads(join_file.read_bytes())["ca_pem"].encode())
        certificate = x509.load_pem_x509_certificate(held.cert_pem)
        certificate.verify_directly_issued_by(authority)
    except (SpecError, OSError, ValueError, KeyError, TypeError, InvalidSignature):
        return False
    return [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [agent_id]
