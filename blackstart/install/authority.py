"""The installation's authority, in the cluster and here: one, whoever made it.

Invariant: an authority that the cluster has is never replaced: every certificate hangs on it. Its key stays on this
machine only where it was made here.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from protos.error import BlackstartError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blackstart.install.kubectl import Kubectl

NAME: Final = "blackstart-authority"
NAMESPACE: Final = "blackstart"
_MADE_S: Final = 60.0  # cert-manager takes seconds


def made_here(kubectl: Kubectl, state: Path) -> bool:
    """Puts the authority of *state*, made if it is new, into the cluster, unless one is there; whether ours is there.

    RefusedError where the cluster has another one than *state*.
    """
    held = _held(kubectl)
    ours = state / "pki" / "ca"
    if held is not None:
        if (ours / "ca.pem").exists() and (ours / "ca.pem").read_bytes() != held[0]:
            raise RefusedError(
                f"the cluster has another authority than {ours}: name the state of its installation by --state, "
                f"or delete the secret {NAME} of namespace {NAMESPACE} and enrol everybody anew"
            )
        return (ours / "ca.pem").exists()
    if not (ours / "ca.pem").exists():
        _certs("init", str(state))
    content = {"tls.crt": (ours / "ca.pem").read_text(), "tls.key": (ours / "ca-key.pem").read_text()}
    secret = {
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "stringData": content,
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "blackstart"}},
    }  # fmt: skip
    kubectl("create", "-f", "-", given=json.dumps(secret))
    return True


def awaited(kubectl: Kubectl, state: Path, say: Callable[[str], None]) -> str:
    """The authority's certificate, PEM, once the cluster has it; *state*/admin gets a certificate by it."""
    until = time.monotonic() + _MADE_S
    while (held := _held(kubectl)) is None:
        if time.monotonic() > until:
            raise BlackstartError(f"nobody made the secret {NAME} within {_MADE_S:g} s: look after cert-manager")
        say(f"waiting for the secret {NAME}")
        time.sleep(2.0)
    certificate, key = held
    if not (state / "admin" / "cert.pem").exists():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "ca.pem").write_bytes(certificate)
            (Path(folder) / "ca-key.pem").touch(0o600)
            (Path(folder) / "ca-key.pem").write_bytes(key)
            _certs("issue", "admin", "--ca", folder, "--output", str(state / "admin"), "--role", "admin")
    return certificate.decode()


def join(ca_pem: str) -> dict[str, Any]:
    """The agents' join file, as the ConfigMap that they mount."""
    document = {
        "token_file": "/var/run/secrets/blackstart/token", "address": "blackstart-controller.blackstart.svc:7400",
        "enrol_address": "blackstart-controller.blackstart.svc:7401", "ca_pem": ca_pem,
    }  # fmt: skip
    metadata = {"name": "blackstart-join", "namespace": "blackstart-agents"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
            "data": {"join.json": json.dumps(document, indent=1)}}  # fmt: skip


def _held(kubectl: Kubectl) -> tuple[bytes, bytes] | None:
    secret = kubectl.json("-n", NAMESPACE, "get", "secret", NAME)
    if secret is None:
        return None
    return base64.b64decode(secret["data"]["tls.crt"]), base64.b64decode(secret["data"]["tls.key"])


def _certs(*arguments: str) -> None:
    command = [sys.executable, "-m", "controller.certs_cli", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RefusedError(done.stderr.strip().removeprefix("error: "))
