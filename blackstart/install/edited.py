"""ConfigMaps that their owner has edited since they were installed: freezes, budgets, a node's policy.

Invariant: what was installed is known by its digest, which the object bears; without one, what differs is the owner's.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blackstart.install.kubectl import Kubectl

Json = dict[str, Any]
INSTALLED: Final = "blackstart.dev/installed"
_CONTENT: Final = ("data", "binaryData")


def marked(document: Json) -> Json:
    """*document*, a ConfigMap with the digest of its content; others as they are."""
    if document["kind"] != "ConfigMap":
        return document
    meta = document["metadata"]
    notes = (meta.get("annotations") or {}) | {INSTALLED: _digest(document)}
    return {**document, "metadata": {**meta, "annotations": notes}}


def kept(kubectl: Kubectl, documents: Sequence[Json]) -> list[Json]:
    """Those of *documents* whose object in the cluster was edited, and is neither as installed nor as it would be."""
    return [one for one in documents if one["kind"] == "ConfigMap" and _edited(kubectl, one)]


def _edited(kubectl: Kubectl, document: Json) -> bool:
    meta = document["metadata"]
    there = kubectl.json("get", "configmap", meta["name"], "-n", meta.get("namespace", "default"))
    if there is None:
        return False
    installed = (there["metadata"].get("annotations") or {}).get(INSTALLED, "")
    return _digest(there) not in (installed, _digest(document))


def _digest(document: Json) -> str:
    content = {name: document.get(name) or {} for name in _CONTENT}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
