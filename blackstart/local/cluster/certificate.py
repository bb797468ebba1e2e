"""The test cluster's own authority, its certificates, and the kubeconfigs that use them.

Invariant: keys are readable by their owner alone, and live as long as the cluster's state. Kubernetes reads a user's
name from the common name, and groups from the organizations.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAYS: Final = 30  # a test cluster that is older is made anew
_CLOCK_SKEW: Final = dt.timedelta(minutes=5)
_USAGES: Final = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


@dataclass(frozen=True, slots=True)
class Pair:
    """Where a certificate and its key are."""

    cert: Path
    key: Path


class Authority:
    """Signs what the cluster needs, into *folder*."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "blackstart-testcluster")])
        self.pair = Pair(folder / "ca.pem", folder / "ca-key.pem")
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        made = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        self._write(self.pair, made.add_extension(usage, critical=True), self._key)

    def issue(self, file: str, name: str, groups: tuple[str, ...] = (), hosts: tuple[str, ...] = ()) -> Pair:
        """A certificate for both ends of a connection; *hosts* are its names and addresses as a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._builder(subject, key).add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        made = made.add_extension(x509.ExtendedKeyUsage(_USAGES), critical=False)
        if hosts:
            made = made.add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), False)
        pair = Pair(self._folder / f"{file}.pem", self._folder / f"{file}-key.pem")
        self._write(pair, made, key)
        return pair

    def service_accounts(self) -> Pair:
        """The keys by which tokens of service accounts are signed and checked: RSA, as Kubernetes wants it."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pair = Pair(self._folder / "sa.pub", self._folder / "sa.key")
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        pair.cert.write_bytes(key.public_key().public_bytes(encoding, form))
        _secret(pair.key, _private(key))
        return pair

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        until = now + dt.timedelta(days=_DAYS)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - _CLOCK_SKEW)
        return made.not_valid_after(until)

    def _write(self, pair: Pair, made: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> None:
        pair.cert.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        _secret(pair.key, _private(key))


def kubeconfig(path: Path, server: str, authority: Authority, user: Pair) -> Path:
    """Writes a kubeconfig for *user* at *path*; JSON is YAML, too."""
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "testcluster",
        "clusters": [
            {"name": "testcluster", "cluster": {"server": server, "certificate-authority": str(authority.pair.cert)}}
        ],
        "users": [
            {"name": path.stem, "user": {"client-certificate": str(user.cert), "client-key": str(user.key)}}
        ],
        "contexts": [{"name": "testcluster", "context": {"cluster": "testcluster", "user": path.stem}}],
    }  # fmt: skip
    _secret(path, json.dumps(document, indent=1).encode())
    return path


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _secret(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
