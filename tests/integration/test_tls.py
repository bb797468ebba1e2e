"""What a port of Blackstart lets in, tried with Python's own TLS: version 1.3 and our authority's certificates only."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager

import grpc
import pytest

from controller import pki
from controller.pki import Authority
from protos import channel, credential
from protos.error import RefusedError

SERVER = """
import asyncio, sys
from pathlib import Path
from protos import channel, credential
import grpc

def load():
    held = credential.load_credential(Path(sys.argv[1]))
    return channel.Presented(held.cert_pem, held.key_pem, held.ca_pem)

async def main():
    now, required = load(), "open" not in sys.argv
    if "fixed" in sys.argv:
        credentials = channel.server_credentials(now.cert_pem, now.key_pem, now.ca_pem, required)
    else:
        credentials = channel.rotating_server_credentials(load, required)
    server = grpc.aio.server(options=channel.SERVER_OPTIONS)
    print(server.add_secure_port("127.0.0.1:0", credentials), flush=True)
    await server.start()
    await server.wait_for_termination()

asyncio.run(main())
"""
LAX = SERVER.replace("from protos import", "import grpc; from protos import").replace(
    "async def main", "channel._check = lambda: None\nasync def main"
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("authority"))


def certified(authority, directory, name="main", role="controller", ca_pem=None, valid_s=None):
    hosts = ["127.0.0.1"] if role == "controller" else []
    cert_pem, key_pem = authority.issue(name, role, hosts=hosts, valid_s=valid_s)
    credential.write_credential(directory, cert_pem, key_pem, ca_pem or authority.ca_pem)
    return directory


@contextmanager
def served(directory, how="rotating", program=SERVER):
    environ = {key: value for key, value in os.environ.items() if key != channel.CIPHER_VARIABLE}
    command = [sys.executable, "-c", program, str(directory), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ, text=True) as server:
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


@pytest.fixture(scope="module", params=["fixed", "rotating"])
def port(request, authority, tmp_path_factory):
    with served(certified(authority, tmp_path_factory.mktemp("server")), request.param) as port:
        yield port


def shake_hands(port, trusted, client=None, version=ssl.TLSVersion.TLSv1_3):
    """The version agreed on and the server's serial number, once the server has spoken HTTP/2 to us."""
    context = ssl.create_default_context(cafile=str(trusted / "ca.pem"))
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    if client is not None:
        context.load_cert_chain(client / "cert.pem", client / "key.pem")
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as link,
    ):
        if not link.recv(9):  # with TLS 1.3 a client learns of its refusal at the first read
            raise ssl.SSLError("closed without a word")
        return link.version(), link.getpeercert()["serialNumber"]


REFUSED = (ssl.SSLError, ConnectionResetError)


@pytest.fixture
def alice(authority, tmp_path):
    return certified(authority, tmp_path / "alice", "alice", "operator")


def test_tls_1_3_is_accepted_and_1_2_is_refused(port, alice):
    assert shake_hands(port, alice, alice)[0] == "TLSv1.3"
    with pytest.raises(REFUSED):
        shake_hands(port, alice, alice, ssl.TLSVersion.TLSv1_2)
    channel.check_tls("127.0.0.1", port)


def test_no_client_certificate_is_refused(port, alice):
    with pytest.raises(REFUSED):
        shake_hands(port, alice)


def test_a_certificate_of_another_authority_is_refused(port, authority, tmp_path):
    stranger = Authority.create(tmp_path / "other")
    mallory = certified(stranger, tmp_path / "mallory", "mallory", "admin", authority.ca_pem)
    with pytest.raises(REFUSED):
        shake_hands(port, mallory, mallory)


def test_an_expired_certificate_is_refused(port, authority, tmp_path):
    late = certified(authority, tmp_path / "late", "late", "admin", valid_s=0.001)
    until_s = pki.identity((late / "cert.pem").read_bytes()).not_after_s
    while time.time() <= until_s + 1:  # X.509 counts whole seconds
        time.sleep(0.05)
    with pytest.raises(REFUSED):
        shake_hands(port, late, late)


def test_the_controllers_certificate_opens_nothing_as_a_client(port, authority, tmp_path, alice):
    other = certified(authority, tmp_path / "controller")
    with pytest.raises(REFUSED):
        shake_hands(port, alice, other)


def test_an_agents_certificate_serves_nobody(authority, tmp_path, alice):
    """Even one that names the host: it says what it is for."""
    cert_pem, key_pem = authority.issue("node-1", "agent", hosts=["127.0.0.1"])
    credential.write_credential(tmp_path / "agent", cert_pem, key_pem, authority.ca_pem)
    with served(tmp_path / "agent", "fixed") as port:
        with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
            shake_hands(port, alice, alice)
        held = credential.load_credential(alice)
        trusting = channel.channel_credentials(held.cert_pem, held.key_pem, held.ca_pem)
        with grpc.secure_channel(f"127.0.0.1:{port}", trusting, options=channel.CHANNEL_OPTIONS) as link:
            assert call(link) is grpc.StatusCode.UNAVAILABLE


def call(link):
    with pytest.raises(grpc.RpcError) as caught:
        link.unary_unary("/blackstart.v1.None/None")(b"", timeout=10)
    return caught.value.code()


def test_a_client_of_our_own_gets_through(port, alice):
    held = credential.load_credential(alice)
    trusting = channel.channel_credentials(held.cert_pem, held.key_pem, held.ca_pem)
    with grpc.secure_channel(f"127.0.0.1:{port}", trusting, options=channel.CHANNEL_OPTIONS) as link:
        assert call(link) is grpc.StatusCode.UNIMPLEMENTED  # the server has no services: it answered


def test_the_enrolment_port_asks_for_no_certificate_but_for_tls_1_3(authority, tmp_path, alice):
    with served(certified(authority, tmp_path / "server"), "open") as port:
        assert shake_hands(port, alice)[0] == "TLSv1.3"
        with pytest.raises(REFUSED):
            shake_hands(port, alice, version=ssl.TLSVersion.TLSv1_2)


def test_a_renewed_server_certificate_is_shown_without_a_restart(authority, tmp_path, alice):
    directory = certified(authority, tmp_path / "server")
    with served(directory) as port:
        _, before = shake_hands(port, alice, alice)
        certified(authority, directory)
        _, after = shake_hands(port, alice, alice)
        assert before != after
        (directory / "cert.pem").resolve().write_text("rubbish")
        assert shake_hands(port, alice, alice)[1] == after  # the one before stays in use


def test_a_port_that_would_take_tls_1_2_is_found_out(authority, tmp_path, alice):
    """grpc imported too early, and the refusal of `server_credentials` cut out: `check_tls` still notices."""
    with served(certified(authority, tmp_path / "server"), "fixed", program=LAX) as port:
        assert shake_hands(port, alice, alice, ssl.TLSVersion.TLSv1_2)[0] == "TLSv1.2"
        with pytest.raises(RefusedError, match=rf"127\.0\.0\.1:{port} accepts TLS 1\.2"):
            channel.check_tls("127.0.0.1", port)


@pytest.mark.parametrize(
    ("program", "environ", "said"),
    [
        ("import grpc; from protos import channel", {}, "import protos.channel first"),
        ("from protos import channel", {channel.CIPHER_VARIABLE: "ALL"}, "is set to 'ALL': unset it"),
    ],
)
def test_a_setting_that_came_too_late_is_refused(program, environ, said):
    kept = {key: value for key, value in os.environ.items() if key != channel.CIPHER_VARIABLE}
    ended = subprocess.run(
        [sys.executable, "-c", f"{program}\nchannel.server_credentials(b'', b'', b'')"],
        check=False, capture_output=True, text=True, env=kept | environ,
    )  # fmt: skip
    assert ended.returncode == 1
    assert said in ended.stderr.splitlines()[-1]
