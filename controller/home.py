"""The state directory: certificates and where things lie. At the first start everything is made.

```
STATE/pki/ca/          the authority: ca.pem, ca-key.pem
STATE/pki/controller/  what the ports present
STATE/admin/           the first administrator's certificate
STATE/runs/            one directory a running child
STATE/store.sqlite
```
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from controller.pki import CA_KEY, Authority
from protos.credential import Credential, load_credential, renewal_due, write_credential
from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """An open state directory."""

    directory: Path
    authority: Authority

    @property
    def certs(self) -> Path:
        return self.directory / "pki" / "controller"

    @property
    def runs(self) -> Path:
        return self.directory / "runs"

    def clear_runs(self) -> None:
        """Removes what children left that died with an earlier controller: once the store is ours, and not before."""
        shutil.rmtree(self.runs, ignore_errors=True)
        self.runs.mkdir(mode=0o700)

    def credential(self) -> Credential:
        """What the ports present now."""
        return load_credential(self.certs)

    def renew_if_due(self, hosts: Sequence[str]) -> bool:
        """A fresh certificate when two thirds of the present one's life are over, or it does not name *hosts*."""
        held = self.credential()
        if not renewal_due(held.cert_pem, time.time()) and set(hosts) <= named(held.cert_pem):
            return False
        self._issue(self.certs, "controller", "controller", sorted({*hosts, *named(held.cert_pem)}))
        return True

    def _issue(self, directory: Path, name: str, role: str, hosts: Sequence[str]) -> None:
        cert_pem, key_pem = self.authority.issue(name, role, hosts=hosts)
        assert key_pem is not None
        write_credential(directory, cert_pem, key_pem, self.authority.ca_pem)


def open_home(directory: Path, hosts: Sequence[str]) -> Home:
    """The state in *directory*, made if it is new. SpecError if it cannot be written or a certificate has expired."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = directory / f".write-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        remedy = "free space, correct its permissions, or name another one by --state"
        raise SpecError(Problem(str(directory), f"cannot be written: {error.strerror}", remedy)) from error
    ca = directory / "pki" / "ca"
    home = Home(directory, Authority.load(ca) if (ca / CA_KEY).exists() else Authority.create(ca))
    if not (home.certs / "cert.pem").exists():
        home._issue(home.certs, "controller", "controller", hosts)  # noqa: SLF001 - the same module
    if not (directory / "admin" / "cert.pem").exists():
        home._issue(directory / "admin", "admin", "admin", ())  # noqa: SLF001
    home.renew_if_due(hosts)
    return home


def named(cert_pem: bytes) -> set[str]:
    """Names and addresses in the certificate."""
    certificate = x509.load_pem_x509_certificate(cert_pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def split(address: str, what: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT"; an IPv6 host may stand in brackets."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SpecError(Problem(what, f"{address!r} is not HOST:PORT", "for example 127.0.0.1:7400; port 0: any"))
    return host.strip("[]"), int(port)


def dialled(host: str, further: Sequence[str]) -> str:
    """The host that clients are told: the first of *further*, else *host*, else loopback where that means any."""
    if further:
        return further[0]
    try:
        return "127.0.0.1" if ipaddress.ip_address(host).is_unspecified else host
    except ValueError:
        return host
