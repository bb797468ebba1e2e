"""What each service account of the deployment may and may not do: what is tried, and what docs/kubernetes.md shows.

Invariant: every row is a real attempt at the API server with the account's own token; what would change something is
asked for as a server-side dry run, before which authorization comes all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

VIEWER: Final = "blackstart/blackstart-viewer"
OPERATOR: Final = "blackstart/blackstart-operator"
AGENT: Final = "blackstart-agents/blackstart-agent"
CONTROLLER: Final = "blackstart/blackstart-controller"
POD: Final = "subject"  # a pod, a deployment, a budget, a quota and a lease of this name are in each namespace
NODE: Final = "played-0"
CLUSTER: Final = ""
PLACES: Final = ("blackstart", "blackstart-agents", "default", "other", "kube-system")

_GROUPS: Final = {
    "deployments": "/apis/apps/v1", "deployments/scale": "/apis/apps/v1", "daemonsets": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "poddisruptionbudgets": "/apis/policy/v1", "leases": "/apis/coordination.k8s.io/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1", "clusterroles": "/apis/rbac.authorization.k8s.io/v1",
    "clusterrolebindings": "/apis/rbac.authorization.k8s.io/v1", "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "tokenreviews": "/apis/authentication.k8s.io/v1",
}  # fmt: skip
_METHODS: Final = {"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "delete": "DELETE", "patch": "PATCH"}
_ALL: Final = frozenset({"list", "watch", "create"})  # verbs whose path names no object, unless it is a subresource


@dataclass(frozen=True, slots=True)
class Attempt:
    """*account* tries *verb* on *resource* (`pods/eviction`: a subresource) in *namespace* (empty: cluster-wide)."""

    account: str
    verb: str
    resource: str
    namespace: str
    allowed: bool

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.account.rpartition('-')[2]} {self.verb} {self.resource}{where}"

    @property
    def request(self) -> tuple[str, str]:
        """HTTP method and path with query."""
        kind, _, below = self.resource.partition("/")
        path = _GROUPS.get(self.resource, _GROUPS.get(kind, "/api/v1"))
        path += f"/namespaces/{self.namespace}" if self.namespace else ""
        path += f"/{kind}"
        if below or self.verb not in _ALL:
            path += f"/{NODE if kind == 'nodes' else POD}"
        path += f"/{below}" if below else ""
        query = {"watch": "watch=1&timeoutSeconds=1", "list": "limit=1", "get": ""}.get(self.verb, "dryRun=All")
        return _METHODS[self.verb], f"{path}?{query}" if query else path


def _rows(account: str, allowed: bool, *cells: tuple[str, str, tuple[str, ...]]) -> list[Attempt]:
    return [
        Attempt(account, verb, resource, place, allowed)
        for verbs, resources, places in cells
        for verb in verbs.split()
        for resource in resources.split()
        for place in places
    ]  # fmt: skip


_OWN: Final = ("blackstart", "blackstart-agents")
_FOREIGN: Final = ("default", "other", "kube-system")
_SEEN: Final = "poddisruptionbudgets leases resourcequotas services"

ATTEMPTS: Final = [
    *_rows(
        VIEWER, True,
        ("get list watch", "pods deployments poddisruptionbudgets", _OWN), ("list", "daemonsets events", _OWN),
    ),
    *_rows(
        VIEWER, False,
        ("get list watch", "secrets configmaps", PLACES), ("list watch", "pods deployments", _FOREIGN),
        ("list get patch", "nodes", (CLUSTER,)),
        ("create delete patch", "pods deployments poddisruptionbudgets", PLACES),
        ("create", "pods/eviction pods/exec pods/portforward serviceaccounts/token", _OWN),
        ("patch", "deployments/scale", PLACES), ("create", "clusterrolebindings tokenreviews", (CLUSTER,)),
        ("create", "rolebindings", PLACES), ("list watch", "pods secrets", (CLUSTER,)),
    ),
    *_rows(OPERATOR, True, ("get list watch", "pods deployments", _OWN), ("delete", "pods", ("blackstart",))),
    *_rows(
        OPERATOR, False,
        ("get list", "secrets", PLACES), ("delete", "pods", ("blackstart-agents", *_FOREIGN)),
        ("create", "pods pods/exec serviceaccounts/token", PLACES), ("patch", "deployments configmaps", PLACES),
        ("patch", "nodes", (CLUSTER,)), ("create", "rolebindings", PLACES),
        ("create", "clusterrolebindings", (CLUSTER,)),
    ),
    *_rows(
        AGENT, True,
        ("get list watch", "pods deployments", PLACES), ("list watch", "endpointslices", PLACES),
        ("get", _SEEN, PLACES), ("list", "poddisruptionbudgets", PLACES), ("get list", "nodes", (CLUSTER,)),
    ),
    *_rows(
        AGENT, False,
        ("get list watch create patch delete", "secrets", PLACES), ("get list watch", "configmaps", PLACES),
        ("get list watch", "events replicasets", PLACES), ("watch list", "leases resourcequotas services", PLACES),
        ("watch", "poddisruptionbudgets", PLACES), ("get patch", "deployments/scale", PLACES),
        ("watch", "nodes", (CLUSTER,)),
        ("create", "pods pods/exec pods/attach pods/portforward serviceaccounts/token", PLACES),
        ("patch", "pods", PLACES), ("delete", "deployments", PLACES), ("delete create", "nodes", (CLUSTER,)),
        ("create", "rolebindings", PLACES), ("create", "clusterrolebindings clusterroles tokenreviews", (CLUSTER,)),
        ("get list", "clusterroles", (CLUSTER,)),
    ),
    *_rows(CONTROLLER, True, ("create", "tokenreviews", (CLUSTER,))),
    *_rows(
        CONTROLLER, False,
        ("get list watch", "pods secrets configmaps", PLACES), ("list patch", "nodes", (CLUSTER,)),
        ("create", "pods/eviction", PLACES), ("create", "clusterrolebindings", (CLUSTER,)),
        ("get list create patch", "leases", PLACES),
    ),
]  # fmt: skip

# What the faults through the API need: refused by the base, allowed by the overlay cluster-faults in `default`.
_FAULTS: Final = (
    ("delete", "pods poddisruptionbudgets resourcequotas"),
    ("create", "pods/eviction poddisruptionbudgets resourcequotas"),
    ("patch", "deployments leases"),
)  # fmt: skip
PROOF_BOUND: Final = Attempt(AGENT, "create", "pods", "default", True)  # by the overlay quota-proof
_UNBOUND: Final = tuple(place for place in PLACES if place != "default")
FAULTS_REFUSED: Final = [
    *_rows(AGENT, False, *((verbs, kinds, PLACES) for verbs, kinds in _FAULTS)),
    Attempt(AGENT, "patch", "nodes", CLUSTER, False),
]  # fmt: skip
FAULTS_BOUND: Final = [
    *_rows(AGENT, True, *((verbs, kinds, ("default",)) for verbs, kinds in _FAULTS)),
    *_rows(AGENT, False, *((verbs, kinds, _UNBOUND) for verbs, kinds in _FAULTS)),
    Attempt(AGENT, "patch", "nodes", CLUSTER, True),
]  # fmt: skip


def table() -> str:
    """The list as docs/kubernetes.md has it; `python -m tests.cluster.rights` prints it."""
    lines = ["| account | outcome | attempts |", "|---|---|---|"]
    for title, rows in (
        ("", ATTEMPTS),
        (", base", FAULTS_REFUSED),
        (", with `cluster-faults` for `default`", FAULTS_BOUND),
    ):
        for account in dict.fromkeys(row.account for row in rows):
            for allowed in (True, False):
                own = [row for row in rows if row.account == account and row.allowed is allowed]
                if own:
                    outcome = "allowed" if allowed else "refused"
                    lines.append(f"| {account.rpartition('/')[2]}{title} | {outcome} ({len(own)}) | {_grouped(own)} |")
    return "\n".join(lines)


def _grouped(rows: list[Attempt]) -> str:
    verbs: dict[tuple[str, str], list[str]] = {}
    places: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        places.setdefault((row.resource, row.verb), []).append(row.namespace)
    for (resource, verb), found in places.items():
        where = (
            "cluster"
            if found == [CLUSTER]
            else "all"
            if found == list(PLACES)
            else " ".join(n or "cluster" for n in found)
        )
        verbs.setdefault((resource, where), []).append(verb)
    return "; ".join(f"{resource}: {' '.join(found)} ({where})" for (resource, where), found in verbs.items())


if __name__ == "__main__":
    print(table())
