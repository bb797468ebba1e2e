"""kubectl, for the cluster of KUBECONFIG. Its errors become ours: what is missing, and who must act.

Invariant: secrets go in by standard input, never on a command line.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any, Final

from protos.error import BlackstartError, DeniedError, RefusedError, SpecError, UnreachableError

_TIMEOUT_S: Final = 120.0
_UNREACHABLE: Final = (
    "connection refused", "no such host", "i/o timeout", "Unable to connect", "context deadline exceeded",
    "network is unreachable", "no route to host", "x509:", "was refused - did you specify the right host",
)  # fmt: skip
_DENIED: Final = ("(Forbidden)", "is forbidden", "(Unauthorized)", "You must be logged in")
_NO_CONFIG: Final = ("no configuration has been provided", "context was not found", "error loading config file")


class Kubectl:
    """Runs kubectl. RefusedError if there is none."""

    def __init__(self) -> None:
        found = shutil.which("kubectl")
        if found is None:
            raise RefusedError("kubectl is not on the PATH: install it, it is how manifests are applied")
        self._program = found

    def __call__(self, *arguments: str, given: str | None = None) -> str:
        """Its output; BlackstartError with its own words where it fails."""
        done = self.attempt(*arguments, given=given)
        if done.returncode:
            raise translated(done.stderr)
        return done.stdout

    def attempt(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """As it ends, whatever its status."""
        try:
            return subprocess.run(
                [self._program, *arguments], input=given or "", capture_output=True, text=True, check=False,
                timeout=_TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise UnreachableError(f"the cluster does not answer within {_TIMEOUT_S:g} s") from error

    def json(self, *arguments: str) -> Any:
        """What it answers with `-o json`; None for an object that is not there."""
        answer = self(*arguments, "--ignore-not-found", "-o", "json")
        return json.loads(answer) if answer.strip() else None

    def cluster(self) -> str:
        """Name of the context, once the cluster has answered."""
        self("get", "--raw", "/version", "--request-timeout=10s")
        named = self.attempt("config", "current-context")
        return named.stdout.strip() or "the pod's own cluster"


def translated(text: str) -> BlackstartError:
    """What kubectl said, as an error of ours: one sentence, and the exit code that says who must act."""
    rows = [line.strip().removeprefix("error: ") for line in text.splitlines() if line.strip()]
    lines = [line for line in rows if not re.match(r"[EWI]\d{4} ", line)]  # klog's own
    said = lines[0] if lines else text.strip() or "kubectl failed and did not say why"
    if denied := [line for line in lines if any(sign in line for sign in _DENIED)]:
        more = f" (and {len(denied) - 1} more)" if len(denied) > 1 else ""
        return DeniedError(f"the cluster denies it: {denied[0]}{more}: ask for the rights of a cluster administrator")
    if any(sign in text for sign in _NO_CONFIG):
        return SpecError(f"no cluster: {said}: set KUBECONFIG")
    if any(sign in text for sign in _UNREACHABLE):
        return UnreachableError(f"no cluster: {said}: look at KUBECONFIG")
    if "ensure CRDs are installed first" in text:
        return RefusedError(f"the cluster lacks what the overlay needs: {said}")
    return BlackstartError(f"kubectl: {said}")
