"""TLS and keep-alive settings of every Blackstart connection. TLS 1.3 only.

gRPC for Python has no setting for the least TLS version (grpc/grpc#37305). What it has is the list of TLS 1.2 cipher
suites, from the environment. The one suite set here needs an RSA certificate, and the authority of an installation
issues ECDSA certificates only: no TLS 1.2 handshake can succeed. The suites of TLS 1.3 are not subject to that list.

gRPC reads its environment once, when it is first imported. Invariant: this module sets the list before it imports
grpc, and where somebody imported grpc before, `server_credentials` refuses rather than listen with TLS 1.2 allowed.
Source: docs/decisions.md, "TLS 1.3 only".
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from protos.error import RefusedError

CIPHER_VARIABLE: Final = "GRPC_SSL_CIPHER_SUITES"
CIPHER_SUITES: Final = "ECDHE-RSA-AES128-GCM-SHA256"
_GRPC_CORE: Final = "grpc._cython.cygrpc"


def _set_cipher_suites() -> str:
    """Sets the list for gRPC to read; what is wrong, if it came too late or something else is set."""
    found = os.environ.get(CIPHER_VARIABLE)
    if found is not None and found != CIPHER_SUITES:
        return f"{CIPHER_VARIABLE} is set to {found!r}: unset it"
    if found is None and _GRPC_CORE in sys.modules:
        return "grpc was imported before protos.channel: import protos.channel first"
    os.environ[CIPHER_VARIABLE] = CIPHER_SUITES
    return ""


_problem: Final = _set_cipher_suites()

import grpc  # noqa: E402 - after the environment is set

Option = tuple[str, int]

MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024

_SHARED_OPTIONS: Final[tuple[Option, ...]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.http2.max_pings_without_data", 0),
)

# A peer that was powered off sends nothing: it is noticed after keepalive_time + keepalive_timeout, 15 s.
CHANNEL_OPTIONS: Final[tuple[Option, ...]] = (
    *_SHARED_OPTIONS,
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),  # a call that may have been carried out is repeated by its caller or not at all
)

SERVER_OPTIONS: Final[tuple[Option, ...]] = (
    *_SHARED_OPTIONS,
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # below the clients' own, or they are sent away
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, never shared with a stranger
)


@dataclass(frozen=True, slots=True)
class Presented:
    """What a server presents: its certificate and key, and the authority that its clients must be certified by."""

    cert_pem: bytes
    key_pem: bytes
    ca_pem: bytes


def server_credentials(
    cert_pem: bytes, key_pem: bytes, ca_pem: bytes, require_client: bool = True
) -> grpc.ServerCredentials:
    """Credentials for a port; RefusedError where TLS 1.2 would be accepted.

    Args:
        cert_pem: the server's certificate, ECDSA.
        key_pem: its private key.
        ca_pem: the authority of the clients' certificates.
        require_client: False only for the port of enrolment, whose callers have no certificate yet.
    """
    _check()
    roots = ca_pem if require_client else None
    return grpc.ssl_server_credentials([(key_pem, cert_pem)], roots, require_client)


def rotating_server_credentials(load: Callable[[], Presented], require_client: bool = True) -> grpc.ServerCredentials:
    """As `server_credentials`, but *load* is asked before each handshake: a renewed certificate needs no restart.

    *load* is called on a thread of gRPC's and must be quick; if it raises, the certificate before stays in use.

    gRPC is told of a certificate only when it is another one: taking one over while another handshake is under way on
    another thread is a race within gRPC (seen: SIGSEGV with a thousand agents that connect at once, 1.71 to 1.85).
    """
    _check()
    used = load()

    def configuration(now: Presented) -> grpc.ServerCertificateConfiguration:
        roots = now.ca_pem if require_client else None
        return grpc.ssl_server_certificate_configuration([(now.key_pem, now.cert_pem)], roots)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        now = load()
        if now == used:
            return None
        used = now
        return configuration(now)

    fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", changed)  # None says that nothing has changed
    return grpc.dynamic_ssl_server_credentials(configuration(used), fetch, require_client)


def channel_credentials(cert_pem: bytes, key_pem: bytes, ca_pem: bytes) -> grpc.ChannelCredentials:
    """A client's credentials: it trusts *ca_pem* alone and shows its own certificate."""
    return grpc.ssl_channel_credentials(ca_pem, key_pem, cert_pem)


def check_tls(host: str, port: int, timeout_s: float = 5.0) -> None:
    """Offers TLS 1.2 to a port of our own and raises RefusedError if it is taken up: the proof at start-up."""
    record = _first_answer(host, port, timeout_s)
    if record == b"\x16":  # a handshake record: the server went along
        raise RefusedError(f"{host}:{port} accepts TLS 1.2: {_problem or 'its certificate is not an ECDSA one'}")


def _first_answer(host: str, port: int, timeout_s: float) -> bytes:
    """First byte of the answer to a TLS 1.2 greeting: an alert, nothing, or a handshake record."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent or believed: only the version of the answer counts
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    greeting = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), greeting).do_handshake()
    except ssl.SSLWantReadError:
        pass
    try:
        with socket.create_connection((host, port), timeout_s) as link:
            link.sendall(greeting.read())
            return link.recv(1)
    except ConnectionResetError:
        return b""


def _check() -> None:
    if _problem:
        raise RefusedError(f"TLS 1.2 would be accepted: {_problem}")
