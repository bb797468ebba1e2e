"""Certificates as their holders keep them: key and request, files, expiry.

Layout of a directory: `cert.pem`, `key.pem` (0600) and `ca.pem`. What `write_credential` wrote are links through
`current`, which names the directory of one version: the three change together, by one rename, or not at all.
Invariant: whenever its writer is killed, the directory holds a matching pair, the old one or the new one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from protos.error import Problem, SpecError, TransientError

if TYPE_CHECKING:  # late: 11 MB that guardians and holders do without
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

CERT, KEY, CA = "cert.pem", "key.pem", "ca.pem"
_CURRENT: Final = "current"
_VERSION: Final = "version-"
_RENEW_AT_FRACTION: Final = 2 / 3
_REMEDY: Final = "get a new one: an agent joins again with a new join file, an operator asks for a new certificate"


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate, its key, and the authority that its holder trusts; PEM."""

    cert_pem: bytes
    key_pem: bytes
    ca_pem: bytes


def new_key_and_csr(name: str) -> tuple[bytes, bytes]:
    """A fresh P-256 key and a request for a certificate for *name*; both PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem, csr.public_bytes(serialization.Encoding.PEM)


def read_credential(directory: Path) -> Credential:
    """As `load_credential`, unchecked: for who connects with it, where the peer checks, and saves 8 MB of parser."""
    source = directory / _CURRENT
    source = source.resolve() if source.is_symlink() else directory
    return Credential(*(_read(source / name, directory / name) for name in (CERT, KEY, CA)))


def load_credential(directory: Path, now_s: float | None = None) -> Credential:
    """What *directory* holds, read from one version; SpecError if it is missing, does not match or has expired.

    Args:
        directory: as in the module's layout; plain files do too.
        now_s: seconds since the Unix epoch; the clock's by default.
    """
    held = read_credential(directory)
    cert = _certificate(held.cert_pem, directory / CERT)
    if _key(held.key_pem, directory / KEY).public_key() != cert.public_key():
        raise SpecError(Problem(str(directory), f"{KEY} is not the key of {CERT}", _REMEDY))
    check_dates(cert, directory / CERT, time.time() if now_s is None else now_s)
    return held


def write_credential(directory: Path, cert_pem: bytes, key_pem: bytes, ca_pem: bytes) -> None:
    """Puts the three in place together, on disk; TransientError if it cannot, with the old ones still in place."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = directory / _CURRENT
        kept = before.readlink().name if before.is_symlink() else ""
        fresh = directory / f"{_VERSION}{secrets.token_hex(8)}"
        fresh.mkdir(mode=0o700)
        for name, content in ((CERT, cert_pem), (KEY, key_pem), (CA, ca_pem)):
            write_synced(fresh / name, content)
        sync_directory(fresh)
        _link(directory / _CURRENT, fresh.name)
        for name in (CERT, KEY, CA):
            if not (directory / name).is_symlink():
                _link(directory / name, f"{_CURRENT}/{name}")
        sync_directory(directory)
        for old in directory.glob(f"{_VERSION}*"):  # the one before stays, for who is reading it
            if old.name not in {fresh.name, kept}:
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        message = (
            f"cannot write the certificate to {directory}: {error.strerror}: free space or correct its permissions"
        )
        raise TransientError(message) from error


def renewal_due(cert_pem: bytes, now_s: float) -> bool:
    """True once two thirds of the certificate's life are over."""
    cert = _certificate(cert_pem, Path(CERT))
    begin_s, end_s = cert.not_valid_before_utc.timestamp(), cert.not_valid_after_utc.timestamp()
    return now_s >= begin_s + (end_s - begin_s) * _RENEW_AT_FRACTION


def check_dates(cert: x509.Certificate, path: Path, now_s: float) -> None:
    """SpecError with file, date and remedy if *cert* has expired or is not valid yet."""
    now = datetime.fromtimestamp(now_s, UTC)
    if now >= cert.not_valid_after_utc:
        raise SpecError(Problem(str(path), f"expired on {cert.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC", _REMEDY))
    if now < cert.not_valid_before_utc:
        what = (
            f"is not valid before {cert.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC, and it is {now:%Y-%m-%d %H:%M:%S}"
        )
        raise SpecError(Problem(str(path), what, "set the clock of this machine"))


def write_synced(path: Path, content: bytes, mode: int = 0o600) -> None:
    """A new file, on disk when this returns; FileExistsError if there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(path: Path, target: str) -> None:
    """Makes *path* a link to *target* by one rename, whatever it was before."""
    made = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    made.symlink_to(target)
    made.replace(path)


def _read(path: Path, shown: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(Problem(str(shown), f"cannot be read: {error.strerror}", _REMEDY)) from error


def _certificate(pem: bytes, path: Path) -> x509.Certificate:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise SpecError(Problem(str(path), "is not a certificate in PEM", _REMEDY)) from error


def _key(pem: bytes, path: Path) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise SpecError(Problem(str(path), "is not a private key in PEM without a password", _REMEDY)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SpecError(Problem(str(path), "is not an ECDSA key", _REMEDY))
    return key
