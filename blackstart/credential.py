"""A client's certificate: checked here, so that a bad one is named by file and date and not by a closed socket.

Invariant: what `channel_credentials` returns was whole, readable and within its dates when it was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from pathlib import Path

    import grpc

FILES: Final = ("ca.pem", "cert.pem", "key.pem")
REMEDY: Final = "ask the controller's administrator for a certificate, or make one with `blackstart certs init`"


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
        raise SpecError(Problem(str(path), f"is not a readable certificate: {error}", REMEDY)) from error

    def first(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
        values = name.get_attributes_for_oid(oid)
        return str(values[0].value) if values else ""

    return Identity(
        first(certificate.subject, NameOID.COMMON_NAME),
        first(certificate.subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        first(certificate.issuer, NameOID.COMMON_NAME),
    )


def problems(directory: Path, now: datetime | None = None) -> list[Problem]:
    """All that is wrong with the files of *directory*, as far as it can be seen without the controller."""
    now = now or datetime.now(UTC)
    missing = [str(directory / name) for name in FILES if not (directory / name).is_file()]
    if missing:
        return [Problem(str(directory), f"not there: {', '.join(missing)}", REMEDY)]
    found = []
    for name in FILES[:2]:
        try:
            found += _dates(directory / name, identity(directory / name), now)
        except SpecError as error:
            found += error.problems
    return found


def channel_credentials(directory: Path, now: datetime | None = None) -> grpc.ChannelCredentials:
    """Credentials of the certificate in *directory*; SpecError names every file that cannot be used, and why."""
    import grpc

    if found := problems(directory, now):
        raise SpecError(*found)
    try:
        ca, certificate, key = ((directory / name).read_bytes() for name in FILES)
    except OSError as error:
        raise SpecError(Problem(str(error.filename), f"cannot be read: {error.strerror}", REMEDY)) from error
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=certificate)


def _dates(path: Path, found: Identity, now: datetime) -> list[Problem]:
    if now > found.not_after:
        return [Problem(str(path), f"expired on {found.not_after:%Y-%m-%d %H:%M} UTC", REMEDY)]
    if now < found.not_before:
        remedy = "set this machine's clock"
        return [Problem(str(path), f"is not valid before {found.not_before:%Y-%m-%d %H:%M} UTC", remedy)]
    return []
