"""A client's certificate: checked before use, so that a bad one is named by file and date, not by a closed socket.

Invariant: what `channel_credentials` returns was whole, readable, matching and within its dates when it was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from protos import channel
from protos.credential import load_credential
from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import grpc
    from cryptography import x509

FILES: Final = ("ca.pem", "cert.pem", "key.pem")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate names."""

    name: str
    role: str
    not_before: datetime
    not_after: datetime
    issuer: str


def identity(path: Path) -> Identity:
    """What the certificate at *path* says; SpecError when it cannot be read as one."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SpecError(Problem(str(path), f"is not a readable certificate: {error}")) from error
    return Identity(
        _first(certificate.subject, NameOID.COMMON_NAME),
        _first(certificate.subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        _first(certificate.issuer, NameOID.COMMON_NAME),
    )


def channel_credentials(directory: Path, now_s: float | None = None) -> grpc.ChannelCredentials:
    """Credentials of the certificate in *directory*; SpecError says which file cannot be used, why, and what to do."""
    missing = [name for name in FILES if not (directory / name).is_file()]
    if missing:
        remedy = "name the directory with --certs, or make a certificate with `blackstart certs init`"
        raise SpecError(Problem(str(directory), f"{', '.join(missing)} not there", remedy))
    held = load_credential(directory, now_s)
    return channel.channel_credentials(held.cert_pem, held.key_pem, held.ca_pem)


def _first(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    values = name.get_attributes_for_oid(oid)
    return str(values[0].value) if values else ""
