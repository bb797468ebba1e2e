"""An adapter that serves one external metric to autoscalers, through the aggregation layer. In tests only.

The API server reaches it by a service of type ExternalName: endpoints may not lie on loopback.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from blackstart.local.cluster.plane import Plane
from tests.cluster.conftest import Kubectl

GROUP = "external.metrics.k8s.io"
PATH = f"/apis/{GROUP}/v1beta1"
SPACE = "metric-adapter"


class MetricServer:
    """Serves *name*; its value is `value`, to be changed at will."""

    def __init__(self, plane: Plane, name: str) -> None:
        self.name, self.value, self.asked = name, 0, 0
        pair = plane.authority.issue("adapter", "adapter", hosts=(f"adapter.{SPACE}.svc",))  # as which it is asked
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(
            self._server.socket,
            server_side=True,
            do_handshake_on_connect=False,  # one that hangs must hold up none
        )
        self._authority = base64.b64encode(plane.authority.pair.cert.read_bytes()).decode()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def register(self, kubectl: Kubectl) -> None:
        """Has the API server ask here for the whole group."""
        kubectl("create", "namespace", SPACE)
        port = self._server.server_address[1]
        named = {"name": "adapter", "namespace": SPACE}
        outside = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": outside}
        spec = {
            "group": GROUP, "version": "v1beta1", "caBundle": self._authority, "groupPriorityMinimum": 100,
            "versionPriority": 100, "service": {"name": "adapter", "namespace": SPACE, "port": port},
        }  # fmt: skip
        named = {"name": f"v1beta1.{GROUP}"}
        api = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": named,
               "spec": spec}  # fmt: skip
        kubectl("create", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": [service, api]})
        kubectl("wait", "--for=condition=Available", f"apiservice/v1beta1.{GROUP}", "--timeout=30s")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> Any:
        """A document for *path*; None if there is none."""
        head = {"apiVersion": f"{GROUP}/v1beta1"}
        if path == PATH:
            resource = {"name": self.name, "namespaced": True, "kind": "ExternalMetricValueList", "verbs": ["get"]}
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": head["apiVersion"],
                    "resources": [resource | {"singularName": ""}]}  # fmt: skip
        if path.startswith(f"{PATH}/namespaces/") and path.endswith(f"/{self.name}"):
            self.asked += 1
            item = {"metricName": self.name, "metricLabels": {}, "timestamp": "2026-01-01T00:00:00Z",
                    "value": str(self.value)}  # fmt: skip
            return head | {"kind": "ExternalMetricValueList", "metadata": {}, "items": [item]}
        return None


def _handler(metrics: MetricServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = metrics.answer(self.path.partition("?")[0].rstrip("/"))
            body = json.dumps(found or {}).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    return Handler
