"""Which node a pod runs on, by the word of the cluster: a pod's token is reviewed, never read by ourselves.

Invariant: a node's name is returned only for a token that the API server has just called genuine, issued for Blackstart
(`AUDIENCE`) to the service account that the settings name, and bound to a pod that is still there. A pod can so join as
the agent of its own node, and as no other.
Source: TokenReview of authentication.k8s.io/v1; `authentication.kubernetes.io/node-name` since Kubernetes 1.32.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from controller.cluster import NO_ANSWER, ApiServer, ClusterError
from protos.error import BlackstartError, DeniedError, TransientError

if TYPE_CHECKING:
    from controller.config import KubernetesSettings

AUDIENCE: Final = "blackstart"
_NODE: Final = "authentication.kubernetes.io/node-name"
_POD: Final = ("authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid")
_LONGEST: Final = 8192  # characters of a token; those of a cluster have 1,000 to 2,000
_TIMEOUT_S: Final = 10.0
_AT_ONCE: Final = 8  # reviews; a herd of agents waits here, not in the API server


class Pods:
    """Asks the cluster that the settings name, as the controller's own service account."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings, self._gate = settings, asyncio.Semaphore(_AT_ONCE)
        self._server = ApiServer(settings)

    async def node(self, token: str) -> str:
        """The node of the pod that *token* was given to.

        Raises:
            DeniedError: it is not the token of an agent's pod.
            TransientError: the cluster does not answer, or does not let the controller ask.
        """
        if len(token) > _LONGEST:
            raise DeniedError(f"the token has more than {_LONGEST} characters: it is no service account's")
        async with self._gate:
            status = await asyncio.to_thread(self._review, token)
        wanted = "system:serviceaccount:" + self._settings.agents.replace("/", ":")
        user = status.get("user") or {}
        if not status.get("authenticated") or AUDIENCE not in (status.get("audiences") or ()):
            raise DeniedError(f"the cluster does not know this token: {status.get('error') or 'of another audience'}")
        if user.get("username") != wanted:
            raise DeniedError(f"the token is of {user.get('username')}, and agents join as {wanted}")
        extra: dict[str, list[str]] = user.get("extra") or {}
        if any(len(extra.get(key) or []) != 1 for key in _POD):
            raise DeniedError("the token is bound to no pod: one that is bound to a node names a node, too")
        nodes = extra.get(_NODE) or []
        if len(nodes) != 1:
            raise DeniedError("the token names no node: it must be a pod's own, of Kubernetes 1.32 or later")
        return nodes[0]

    def _review(self, token: str) -> dict[str, Any]:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                  "spec": {"token": token, "audiences": [AUDIENCE]}}  # fmt: skip
        try:
            answer = self._server.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review, _TIMEOUT_S)
        except ClusterError as error:
            if error.code == NO_ANSWER:
                raise _unanswered(str(error)) from error
            message = f"refuses the review ({error.code}): let the controller's account create tokenreviews"
            raise _unanswered(message) from error
        status: dict[str, Any] = answer.get("status") or {}
        return status


def _unanswered(why: str) -> BlackstartError:
    return TransientError(f"the agent's token cannot be reviewed: the cluster {why}")
