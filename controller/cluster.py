"""The API server of the cluster that the settings name, asked as the controller's own service account.

Invariant: the token is read anew for every question, since the kubelet replaces it every hour; no proxy is asked on the
way; and whoever answers has proved to be the cluster, by its own authority.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from protos.error import TransientError

if TYPE_CHECKING:
    from controller.config import KubernetesSettings

Json = dict[str, Any]
NO_ANSWER: Final = 0
_SAID_MAX: Final = 300


class ClusterError(TransientError):
    """The API server said no, or nothing. *code* is its HTTP status, or NO_ANSWER."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


class ApiServer:
    """See the module. `ask` may be called from any thread."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._server, self._account = settings.server, settings.account

    def ask(self, method: str, path: str, document: Json | None, timeout_s: float) -> Json:
        """The object that the API server answers with.

        Args:
            method: of HTTP.
            path: from the server's root: `/apis/…`.
            document: what is sent with it.
            timeout_s: longest silence, seconds.

        Raises:
            ClusterError: with what the API server said; the message fits behind "the cluster".
        """
        try:
            own = (self._account / "token").read_text(encoding="ascii").strip()
            request = urllib.request.Request(  # noqa: S310 - https only: the settings see to it
                self._server + path, None if document is None else json.dumps(document).encode(),
                {"Authorization": f"Bearer {own}", "Content-Type": "application/json"}, method=method,
            )  # fmt: skip
            context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
            direct = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            with direct.open(request, timeout=timeout_s) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise ClusterError(f"refuses it ({error.code}): {_said(error)}", error.code) from error
        except (OSError, ValueError) as error:
            raise ClusterError(f"does not answer: {error}", NO_ANSWER) from error
        if not isinstance(found, dict):
            raise ClusterError(f"answers with a {type(found).__name__}, which is no object", NO_ANSWER)
        return found


def _said(error: urllib.error.HTTPError) -> str:
    """The sentence in the Status that comes with a refusal."""
    with error:
        try:
            return str(json.load(error)["message"])[:_SAID_MAX]
        except (OSError, ValueError, KeyError, TypeError):
            return str(error.reason)
