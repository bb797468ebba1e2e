"""The authority, certificates and who they name, credential files."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller import pki
from controller.pki import Authority
from protos import credential
from protos.error import DeniedError, RefusedError, SpecError, TransientError

DAY_S = 86_400


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("ca") / "authority")


def parsed(pem):
    return x509.load_pem_x509_certificate(pem)


def extension(cert, kind):
    return cert.extensions.get_extension_for_class(kind).value


def test_create_writes_private_files_and_load_reads_them(tmp_path):
    directory = tmp_path / "a" / "b"
    made = Authority.create(directory)
    assert sorted(path.name for path in directory.iterdir()) == ["ca-key.pem", "ca.pem"]
    assert [path.stat().st_mode & 0o777 for path in (directory, directory / "ca-key.pem")] == [0o700, 0o600]
    assert Authority.load(directory).ca_pem == made.ca_pem


def test_an_authority_is_never_overwritten(tmp_path):
    before = Authority.create(tmp_path).ca_pem
    with pytest.raises(RefusedError, match=r"ca\.pem exists.*name another directory"):
        Authority.create(tmp_path)
    assert Authority.load(tmp_path).ca_pem == before
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(RefusedError, match="never finished: remove it"):
        Authority.create(tmp_path)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TransientError, match=r"cannot write .*/file/ca"):
        Authority.create(tmp_path / "file" / "ca")


def test_load_names_what_is_wrong(tmp_path):
    with pytest.raises(SpecError, match=r"ca\.pem: cannot be read.*blackstart certs init"):
        Authority.load(tmp_path)
    Authority.create(tmp_path)
    key = tmp_path / "ca-key.pem"
    key.chmod(0o640)
    with pytest.raises(SpecError, match=r"others can read the key.*chmod 600"):
        Authority.load(tmp_path)
    key.chmod(0o600)
    key.write_bytes(credential.new_key_and_csr("x")[0])
    with pytest.raises(SpecError, match="is not the key of"):
        Authority.load(tmp_path)
    key.write_text("rubbish")
    with pytest.raises(SpecError, match="not a usable authority"):
        Authority.load(tmp_path)


def test_the_authority_can_sign_leaves_only(authority):
    ca = parsed(authority.ca_pem)
    assert extension(ca, x509.BasicConstraints) == x509.BasicConstraints(ca=True, path_length=0)
    assert extension(ca, x509.KeyUsage).key_cert_sign
    assert not extension(ca, x509.KeyUsage).digital_signature


def test_a_controllers_certificate(authority):
    cert_pem, key_pem = authority.issue("main", "controller", hosts=["localhost", "10.0.0.1", "::1", "localhost"])
    cert = parsed(cert_pem)
    names = extension(cert, x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["10.0.0.1", "::1"]
    assert list(extension(cert, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert extension(cert, x509.BasicConstraints).ca is False
    assert isinstance(cert.public_key().curve, ec.SECP256R1)
    cert.verify_directly_issued_by(parsed(authority.ca_pem))
    assert serialization.load_pem_private_key(key_pem, None).public_key() == cert.public_key()


@pytest.mark.parametrize(
    ("role", "days"), [("agent", 1), ("runner", 1), ("viewer", 365), ("operator", 365), ("admin", 365)]
)
def test_a_clients_certificate_lives_as_its_role_does(authority, role, days):
    cert_pem, _ = authority.issue("x", role)
    cert, now = parsed(cert_pem), datetime.now(UTC)
    assert list(extension(cert, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert (now - cert.not_valid_before_utc).total_seconds() == pytest.approx(300, abs=5)
    assert (cert.not_valid_after_utc - now).total_seconds() == pytest.approx(days * DAY_S, abs=5)
    assert pki.identity(cert_pem) == pki.Identity("x", role, cert.not_valid_after_utc.timestamp())


def test_nothing_outlives_the_authority_and_serials_differ(authority):
    certs = [parsed(authority.issue("x", "admin", valid_s=100 * 365 * DAY_S)[0]) for _ in range(20)]
    assert all(cert.not_valid_after_utc == parsed(authority.ca_pem).not_valid_after_utc for cert in certs)
    assert len({cert.serial_number for cert in certs}) == 20


def test_a_bad_request_is_refused_with_everything_that_is_wrong(authority):
    with pytest.raises(SpecError) as caught:
        authority.issue("-x\n", "root", hosts=["a b"])
    assert [problem.where for problem in caught.value.problems] == ["name", "role", "hosts"]
    with pytest.raises(SpecError, match="a controller without a name"):
        authority.issue("x", "controller")
    with pytest.raises(SpecError, match="lifetime"):
        authority.issue("x", "agent", valid_s=0)
    with pytest.raises(SpecError, match="cannot stand in a certificate"):
        authority.issue("x" * 65, "agent")


def test_an_agent_chooses_its_key_and_nothing_else(authority):
    key = ec.generate_private_key(ec.SECP256R1())
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, "boss"),
                    x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "admin"),
                ]
            )
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("controller")]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    cert_pem = authority.sign_agent(greedy, "node-1")
    cert = parsed(cert_pem)
    assert (pki.identity(cert_pem).name, pki.identity(cert_pem).role) == ("node-1", "agent")
    assert extension(cert, x509.BasicConstraints).ca is False
    assert cert.public_key() == key.public_key()
    with pytest.raises(x509.ExtensionNotFound):
        extension(cert, x509.SubjectAlternativeName)


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65_537, 2048), ec.generate_private_key(ec.SECP384R1())],
    ids=["rsa", "p384"],
)
def test_other_keys_than_p256_are_refused(authority, key):
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(SpecError, match="P-256"):
        authority.sign_agent(csr.public_bytes(serialization.Encoding.PEM), "node-1")


def test_a_request_that_its_key_did_not_sign_is_refused(authority):
    _, csr_pem = credential.new_key_and_csr("x")
    der = bytearray(ssl.PEM_cert_to_DER_cert(csr_pem.decode().replace("CERTIFICATE REQUEST", "CERTIFICATE")))
    der[-1] ^= 1
    forged = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()
    for bad in (forged, b"rubbish"):
        with pytest.raises(SpecError, match="csr_pem"):
            authority.sign_agent(bad, "x")


def test_identity_from_auth_context(authority):
    cert_pem, _ = authority.issue("alice", "operator")
    assert pki.identity_from_auth_context({"x509_pem_cert": [cert_pem]}).name == "alice"
    with pytest.raises(DeniedError, match="needs a client certificate"):
        pki.identity_from_auth_context({"transport_security_type": [b"ssl"]})
    with pytest.raises(DeniedError, match="names no identity"):
        pki.identity(authority.ca_pem)
    with pytest.raises(DeniedError, match="cannot be read"):
        pki.identity(b"rubbish")


def test_tokens_are_long_and_kept_as_digests():
    token, digest = pki.new_token()
    assert len(token) >= 43
    assert pki.token_digest(token) == digest != token
    assert pki.new_token()[0] != token


def fresh(authority, valid_s=None):
    key_pem, csr_pem = credential.new_key_and_csr("node-1")
    return authority.issue("node-1", "agent", csr_pem=csr_pem, valid_s=valid_s)[0], key_pem, authority.ca_pem


def test_credentials_are_replaced_together(tmp_path, authority):
    directory = tmp_path / "certs"
    for _ in range(4):
        cert, key, ca = fresh(authority)
        credential.write_credential(directory, cert, key, ca)
        assert credential.load_credential(directory) == credential.Credential(cert, key, ca)
        assert (directory / "cert.pem").read_bytes() == cert
        assert (directory / "key.pem").stat().st_mode & 0o777 == 0o600
    assert len(list(directory.glob("version-*"))) == 2


def test_plain_files_load_and_are_taken_over(tmp_path, authority):
    for name, content in zip(("cert.pem", "key.pem", "ca.pem"), fresh(authority), strict=True):
        (tmp_path / name).write_bytes(content)
    credential.load_credential(tmp_path)
    cert, key, ca = fresh(authority)
    credential.write_credential(tmp_path, cert, key, ca)
    assert (tmp_path / "cert.pem").read_bytes() == credential.load_credential(tmp_path).cert_pem == cert


def test_an_expired_certificate_gives_one_error_with_file_date_and_remedy(tmp_path, authority):
    credential.write_credential(tmp_path, *fresh(authority, valid_s=60))
    with pytest.raises(SpecError) as caught:
        credential.load_credential(tmp_path, now_s=time.time() + 61)
    [problem] = caught.value.problems
    assert problem.where == str(tmp_path / "cert.pem")
    assert problem.what.startswith("expired on 20")
    assert "joins again" in problem.remedy
    with pytest.raises(SpecError, match="set the clock"):
        credential.load_credential(tmp_path, now_s=time.time() - 3600)


def test_what_does_not_match_or_is_missing_is_named(tmp_path, authority):
    with pytest.raises(SpecError, match=r"cert\.pem: cannot be read"):
        credential.load_credential(tmp_path)
    cert, _, ca = fresh(authority)
    credential.write_credential(tmp_path, cert, credential.new_key_and_csr("x")[0], ca)
    with pytest.raises(SpecError, match=r"key\.pem is not the key of cert\.pem"):
        credential.load_credential(tmp_path)
    credential.write_credential(tmp_path, b"rubbish", b"rubbish", ca)
    with pytest.raises(SpecError, match=r"cert\.pem: is not a certificate"):
        credential.load_credential(tmp_path)


def test_renewal_is_due_at_two_thirds(authority):
    cert, *_ = fresh(authority, valid_s=3600 - 300)  # an hour with the five minutes before
    begin_s = parsed(cert).not_valid_before_utc.timestamp()
    assert not credential.renewal_due(cert, begin_s + 2399)
    assert credential.renewal_due(cert, begin_s + 2401)


KILLED = """
import os, signal, sys
from pathlib import Path
from protos import credential
steps, at = [0], int(sys.argv[1])
def stepping(name):
    real = getattr(os, name)
    def step(*args, **options):
        steps[0] += 1
        if steps[0] > at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    setattr(os, name, step)
for name in ("fsync", "replace", "symlink", "mkdir", "open"):
    stepping(name)
new = Path(sys.argv[3])
credential.write_credential(Path(sys.argv[2]), *((new / n).read_bytes() for n in ("cert.pem", "key.pem", "ca.pem")))
"""


@pytest.mark.parametrize("at", [1, 4, 6, 8, 9])
def test_a_writer_killed_at_any_step_leaves_a_matching_pair(tmp_path, authority, at):
    old, new = tmp_path / "old", tmp_path / "new"
    credential.write_credential(old, *fresh(authority))
    credential.write_credential(new, *fresh(authority))
    before = credential.load_credential(old)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(at), str(old), str(new)], check=False, env=os.environ)
    assert ended.returncode == -signal.SIGKILL
    assert credential.load_credential(old) in (before, credential.load_credential(new))
