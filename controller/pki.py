"""The certificate authority of one installation: ECDSA P-256, and nothing else.

The name is the subject's CN, the role its OU. Keys other than P-256 are refused: with them TLS 1.2 would become
possible (see `protos.channel`). Invariant: an authority that exists is never overwritten, and its key is never
readable by others. There is no revocation: lifetimes are short instead, and agents renew at two thirds of theirs.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import os
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protos.credential import check_dates, sync_directory, write_synced
from protos.error import DeniedError, Problem, RefusedError, SpecError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

CA_CERT: Final = "ca.pem"
CA_KEY: Final = "ca-key.pem"

_HOUR_S: Final = 3600.0
_DAY_S: Final = 24 * _HOUR_S
# Agents renew by themselves; a runner lives as long as its run; people and controllers are renewed by hand.
LIFETIME_S: Final[Mapping[str, float]] = {
    "agent": 24 * _HOUR_S,
    "runner": _DAY_S,
    "controller": 90 * _DAY_S,
    "viewer": 365 * _DAY_S,
    "operator": 365 * _DAY_S,
    "admin": 365 * _DAY_S,
}
_AUTHORITY_LIFETIME_S: Final = 10 * 365 * _DAY_S
_SKEW_S: Final = 300.0  # clocks of a fleet differ: a certificate is valid from five minutes ago
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")  # X.520 allows a common name 64 characters


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate names. *not_after_s*: seconds since the Unix epoch."""

    name: str
    role: str
    not_after_s: float


class Authority:
    """Issues certificates. Made by `create` or `load`."""

    def __init__(self, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._cert, self._key = cert, key

    @classmethod
    def create(cls, directory: Path) -> Self:
        """A new authority in *directory*, on disk when this returns; RefusedError if there is one already."""
        _refuse_existing(directory)
        key = ec.generate_private_key(ec.SECP256R1())
        cert = _self_signed(key)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _put_new(directory / CA_KEY, _key_pem(key))
            _put_new(directory / CA_CERT, cert.public_bytes(serialization.Encoding.PEM))
            sync_directory(directory)
        except FileExistsError as error:
            raise RefusedError(f"{directory}: another process is making an authority there") from error
        except OSError as error:
            message = f"cannot write {directory}: {error.strerror}: free space or correct its permissions"
            raise TransientError(message) from error
        return cls(cert, key)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The authority in *directory*; SpecError with file and remedy if it cannot be used."""
        cert_path, key_path = directory / CA_CERT, directory / CA_KEY
        try:
            cert_pem, key_pem = cert_path.read_bytes(), key_path.read_bytes()
            mode = key_path.stat().st_mode & 0o777
        except OSError as error:
            remedy = "make an authority by `blackstart certs init`"
            raise SpecError(Problem(str(error.filename), f"cannot be read: {error.strerror}", remedy)) from error
        if mode & 0o077:
            raise SpecError(Problem(str(key_path), f"others can read the key (mode {mode:o})", f"chmod 600 {key_path}"))
        try:
            cert = x509.load_pem_x509_certificate(cert_pem)
            key = serialization.load_pem_private_key(key_pem, None)
        except (ValueError, TypeError) as error:
            raise SpecError(Problem(str(directory), f"not a usable authority: {error}", "restore it")) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != cert.public_key():
            raise SpecError(Problem(str(directory), f"{CA_KEY} is not the key of {CA_CERT}", "restore both"))
        check_dates(cert, cert_path, time.time())
        return cls(cert, key)

    @property
    def ca_pem(self) -> bytes:
        return self._cert.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str, role: str, *, hosts: Sequence[str] = (), valid_s: float | None = None,
        csr_pem: bytes | None = None,
    ) -> tuple[bytes, bytes | None]:  # fmt: skip
        """A certificate and, without *csr_pem*, a fresh key for it; both PEM.

        Args:
            name: the subject's CN.
            role: one of `LIFETIME_S`.
            hosts: names and addresses under which a controller is reached.
            valid_s: lifetime, seconds, > 0; the role's by default, and never past the authority's own end.
            csr_pem: only its key is taken: who asks does not choose name, role or hosts.
        """
        _check_request(name, role, hosts)
        key = None if csr_pem else ec.generate_private_key(ec.SECP256R1())
        public = key.public_key() if key else _requested_key(csr_pem or b"")
        lifetime_s = LIFETIME_S[role] if valid_s is None else valid_s
        if lifetime_s <= 0:
            raise SpecError(Problem("valid_s", f"a lifetime of {lifetime_s:g} s", "give more than 0"))
        usage = ExtendedKeyUsageOID.SERVER_AUTH if role == "controller" else ExtendedKeyUsageOID.CLIENT_AUTH
        now = datetime.now(UTC)
        end = min(now + timedelta(seconds=lifetime_s), self._cert.not_valid_after_utc)
        builder = (
            _builder(_subject(name, role), self._cert.subject, public, now, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(_alternatives(hosts)), critical=False)
        cert = builder.sign(self._key, hashes.SHA256())
        return cert.public_bytes(serialization.Encoding.PEM), _key_pem(key) if key else None

    def sign_agent(self, csr_pem: bytes, agent_id: str) -> bytes:
        """A certificate for the agent *agent_id*, whatever name the request gives."""
        return self.issue(agent_id, "agent", csr_pem=csr_pem)[0]


@functools.lru_cache(maxsize=4096)
def identity(cert_pem: bytes) -> Identity:
    """Whom *cert_pem* names; DeniedError if it names nobody. It does not verify: TLS has done so."""
    try:
        cert = x509.load_pem_x509_certificate(cert_pem)
    except ValueError as error:
        raise DeniedError("the client certificate cannot be read") from error
    names = [str(a.value) for a in cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    roles = [str(a.value) for a in cert.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    if len(names) != 1 or len(roles) != 1 or roles[0] not in LIFETIME_S:
        raise DeniedError(f"the client certificate names no identity of Blackstart: {cert.subject.rfc4514_string()}")
    return Identity(names[0], roles[0], cert.not_valid_after_utc.timestamp())


def identity_from_auth_context(auth_context: Mapping[str, Iterable[bytes]]) -> Identity:
    """The caller of a gRPC method by `context.auth_context()`; DeniedError without a client certificate."""
    for pem in auth_context.get("x509_pem_cert", ()):
        return identity(bytes(pem))
    raise DeniedError("this call needs a client certificate")


def new_token() -> tuple[str, str]:
    """A join token and its digest. Only the digest is kept."""
    token = secrets.token_urlsafe(32)
    return token, token_digest(token)


def token_digest(token: str) -> str:
    """SHA-256 in hex. Looking a token up by digest leaks nothing of it by timing: a guess decides no digest."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Blackstart authority {secrets.token_hex(4)}")])
    end = now + timedelta(seconds=_AUTHORITY_LIFETIME_S)
    return (
        _builder(subject, subject, key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=_SKEW_S))
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(name: str, role: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role)]
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _check_request(name: str, role: str, hosts: Sequence[str]) -> None:
    problems = []
    if not _NAME.fullmatch(name):
        remedy = "1 to 64 letters, digits, dots, hyphens, underscores or @, the first a letter or digit"
        problems.append(Problem("name", f"{name!r} cannot stand in a certificate", remedy))
    if role not in LIFETIME_S:
        problems.append(Problem("role", f"unknown role {role!r}", f"one of {', '.join(LIFETIME_S)}"))
    if role == "controller" and not hosts:
        problems.append(Problem("hosts", "a controller without a name or address", "give those that clients dial"))
    problems += [
        Problem("hosts", f"{host!r} is not a host", "a name or an address") for host in hosts if not _is_host(host)
    ]
    if problems:
        raise SpecError(*problems)


def _is_host(host: str) -> bool:
    return _address(host) is not None or re.fullmatch(r"[A-Za-z0-9*_.-]{1,253}", host) is not None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _alternatives(hosts: Sequence[str]) -> list[x509.GeneralName]:
    return [
        x509.DNSName(host) if (address := _address(host)) is None else x509.IPAddress(address)
        for host in dict.fromkeys(hosts)
    ]


def _requested_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        public = csr.public_key()
        genuine = csr.is_signature_valid
    except ValueError as error:
        raise SpecError(Problem("csr_pem", "not a certificate request in PEM")) from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1) or not genuine:
        raise SpecError(Problem("csr_pem", "needs a P-256 key that signed it", "see protos.credential.new_key_and_csr"))
    return public


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _put_new(path: Path, content: bytes) -> None:
    """The whole file or none, and never over another one."""
    made = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        write_synced(made, content)
        os.link(made, path)
    finally:
        made.unlink(missing_ok=True)


def _refuse_existing(directory: Path) -> None:
    cert, key = directory / CA_CERT, directory / CA_KEY
    if cert.exists():
        raise RefusedError(f"{cert} exists, and all certificates hang on it: keep it, or name another directory")
    if key.exists():
        raise RefusedError(f"{key} is left of an authority that was never finished: remove it, then try again")
