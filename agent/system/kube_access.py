"""How this node reaches Kubernetes, in helper processes only: the client library costs 45 MB and most of a second.

The node's owner says which cluster and as whom, by the environment of the agent: KUBECONFIG, as for kubectl, or a
pod's own service account. No experiment can name credentials.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any, Final

from protos.error import RefusedError

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
INSTALL: Final = "install Blackstart with its extra: pip install 'blackstart[k8s]'"

# A request that is given up must not arrive later, when what it asked for has been reverted: closing, and the death of
# the process, discard what has not been sent (RST), where the kernel would go on sending it for minutes.
_OPTIONS: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
]


def missing() -> str:
    """What this node lacks to reach a cluster, in words; looked at without importing the library."""
    from importlib.util import find_spec

    if find_spec("kubernetes") is None:
        return INSTALL
    paths = [path for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    if paths and not any(Path(path).exists() for path in paths):
        return f"KUBECONFIG names {os.environ['KUBECONFIG']}, which is not there"
    if not paths and not ACCOUNT.exists():
        return "set KUBECONFIG in the agent's environment, or run the agent in a pod with a service account"
    return ""


def api_client(*, connections: int = 4) -> Any:
    """A `kubernetes.client.ApiClient` that keeps up to *connections* connections; RefusedError if there is none.

    Nothing is sent twice by itself: a repetition would outlast the caller's time limit, and a DELETE that was repeated
    is told that there is nothing.
    """
    if told := missing():
        raise RefusedError(told)
    from kubernetes import client, config

    settings = client.Configuration()
    settings.connection_pool_maxsize = connections
    try:
        if os.environ.get("KUBECONFIG"):
            config.load_kube_config(os.environ["KUBECONFIG"], client_configuration=settings)  # not as at the import
        else:
            config.load_incluster_config(client_configuration=settings)
    except Exception as error:  # ConfigException, and what YAML, base64 and a plugin of the file's author let through
        raise RefusedError(f"the cluster's settings cannot be used: {error}") from error
    made = client.ApiClient(settings)
    made.rest_client.pool_manager.connection_pool_kw |= {"socket_options": _OPTIONS, "retries": False}
    return made
