"""Requests to the API server, as bytes: the client library's objects would cost more than the requests.

The library finds the cluster and the credentials (`kube_access`); connections are its own pool's.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

import urllib3

from agent.system import kube_access
from protos.error import ProbeError, RefusedError

_CALL_S: Final = 60.0
_BUSY_S: Final = 20.0  # of a server that says it is busy
_AGAIN_S: Final = 0.5
JSON_TYPE: Final = "application/json"
MERGE_TYPE: Final = "application/merge-patch+json"


class Api:
    """One process's way to the API server."""

    def __init__(self, connections: int = 4) -> None:
        client = kube_access.api_client(connections=connections)
        self._pool, self._settings = client.rest_client.pool_manager, client.configuration
        self.host = str(self._settings.host).rstrip("/")

    def send(self, method: str, path: str, body: bytes | None = None, kind: str = JSON_TYPE) -> Any:
        """The answer, read; raises what urllib3 raises."""
        headers = {"Accept": JSON_TYPE, **self._credentials()} | ({"Content-Type": kind} if body else {})
        return self._pool.request(
            method, f"{self.host}{path}", body=body, headers=headers, timeout=_CALL_S, retries=False
        )

    def open(self, path: str, timeout_s: float) -> Any:
        """An answer that is still being written (a watch); the caller closes it."""
        headers = {"Accept": JSON_TYPE, **self._credentials()}
        return self._pool.request(
            "GET", f"{self.host}{path}", headers=headers, timeout=timeout_s, retries=False, preload_content=False
        )

    def text(self, url: str) -> str:
        """A page of metrics; no bearer token goes to another address than the API server's."""
        own = url.startswith("/")
        where = f"{self.host}{url}" if own else url
        answer = self._pool.request(
            "GET", where, headers=self._credentials() if own else {}, timeout=_CALL_S, retries=False
        )
        if answer.status != 200:
            raise ProbeError(f"{url} answers {answer.status}")
        return str(answer.data.decode("utf-8", "replace"))

    def call(self, method: str, path: str, document: Any = None, kind: str = JSON_TYPE, *, spare: int = 0) -> Any:
        """The JSON answer; None where the status is *spare*. RefusedError or ProbeError in the API server's words."""
        body = None if document is None else json.dumps(document).encode()
        until = time.monotonic() + _BUSY_S
        try:
            while (answer := self.send(method, path, body, kind)).status == 429 and time.monotonic() < until:
                time.sleep(_AGAIN_S)
        except urllib3.exceptions.HTTPError as error:
            raise ProbeError(f"the API server cannot be asked ({method} {path}): {error}") from error
        if answer.status == spare:
            return None
        content = json.loads(answer.data or b"{}")
        if answer.status >= 400:
            told = content.get("message") or answer.status
            raise (RefusedError if answer.status in (401, 403) else ProbeError)(f"{method} {path}: {told}")
        return content

    def _credentials(self) -> dict[str, str]:
        token = self._settings.get_api_key_with_prefix("authorization")
        return {"Authorization": token} if token else {}
