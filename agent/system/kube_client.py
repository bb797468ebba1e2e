"""A Kubernetes API server, reached with the `kubernetes` library: for helper processes only (it costs 45 MB).

The library gives the credentials, their renewal and the connection; objects stay plain JSON, so that a field that this
version of the library does not know is not lost when an object is written back.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

from agent.system import kube_access
from agent.system.kube_wire import Answer, Json, KubeError, NoAnswerError
from protos.error import RefusedError

CONNECT_S: Final = 2.0
ANSWER_S: Final = 6.0


class Client:
    """Keeps its connection; one thread at a time. KubeError when there are no credentials."""

    def __init__(self) -> None:
        try:
            self._api: Any = kube_access.api_client(connections=1)
        except RefusedError as error:
            raise KubeError(str(error)) from error
        from kubernetes.client.rest import ApiException
        from urllib3.exceptions import HTTPError

        self._refused, self._failed = ApiException, (HTTPError, OSError)  # unwrapped, since nothing is tried again

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Json | None = None,
        content: str = "application/json",
    ) -> Answer:
        """One request; any answer is returned. NoAnswerError when none came."""
        headers = {"Accept": "application/json", "Content-Type": content}
        lo_ns = time.monotonic_ns()
        try:
            answer = self._api.call_api(
                path, method, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"], _preload_content=False, _request_timeout=(CONNECT_S, ANSWER_S),
            )  # fmt: skip
            status, text = int(answer.status), answer.data
        except self._refused as error:
            status, text = int(error.status or 0), error.body
            if not status:
                raise NoAnswerError(f"the API server cannot be talked to: {error.reason}") from error
        except self._failed as error:
            raise NoAnswerError(f"the API server does not answer: {error}") from error
        return Answer(status, _parsed(text), lo_ns, time.monotonic_ns())


def _parsed(text: bytes | str | None) -> Json:
    """A refusal by something in between (a proxy) need not be JSON."""
    try:
        body = json.loads(text or "{}")
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {"message": str(text)[:300]}
