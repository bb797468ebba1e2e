"""Holds an object of Kubernetes changed or made (`agent.faults.kube_hold`), and gives it back.

Not undone by the cluster: so this holder outlives the agent (its input ends, it lets go), and the guardian and the
journal stand behind it. It has the library loaded and its connection made before it is told to take hold.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

from agent.faults import kube_hold
from agent.system.kube_client import Client
from agent.system.kube_wire import KubeError

DIES_WITH_AGENT: Final = False
_PATIENCE_S: Final = 30.0  # with an API server that does not answer at the end; the agent or the guardian tries again
_PAUSE_S: Final = 0.25
_force: dict[str, Any] = {}
_client: Client | None = None
_refusal: KubeError | None = None
try:
    _client = Client()
    with contextlib.suppress(KubeError):
        _client.request("GET", "/version")
except KubeError as error:
    _refusal = error


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Changes or makes the object; reports the bounds of the instant."""
    if _client is None:
        raise _refusal or KubeError("no client")
    if time.monotonic_ns() >= deadline_ns:
        raise KubeError("its time was over before it could take hold: the library takes about a second to load")
    _force.update(arguments)
    lo_ns, hi_ns = kube_hold.take(_client, _force)
    return {"lo_ns": lo_ns, "hi_ns": hi_ns}


def tend() -> None:
    """What has to be renewed is renewed in good time."""
    if _force and _client is not None:
        with contextlib.suppress(KubeError):
            kube_hold.tend(_client, _force)


def let_go() -> None:
    until = time.monotonic() + _PATIENCE_S
    while _force and _client is not None:
        try:
            kube_hold.give_back(_client, _force)
            _force.clear()
        except KubeError:
            if time.monotonic() > until:
                return
            time.sleep(_PAUSE_S)
