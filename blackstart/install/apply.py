"""The steps of `blackstart up --kubernetes`: look, apply, wait, say how to connect.

Invariant: nothing is applied that the API server has not taken in a dry run of the same manifests; whatever ends this
early, what was applied is named together with the command that removes it. What the owner has edited since stays.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from blackstart.install import authority, edited, rollout
from blackstart.install.kubectl import Kubectl, translated
from protos.error import BlackstartError, Exit, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).parents[2] / "deploy" / "kubernetes"
_APPLY: Final = ("apply", "--server-side", "--field-manager=blackstart")
_ELSEWHERE: Final = "default"  # there in every cluster


def up(*, overlay: str, state: Path, dry_run: bool, wait_s: float, replace: bool = False) -> int:
    """Installs *overlay* (a name, `base`, or a directory) into the cluster of KUBECONFIG; the exit code.

    Args:
        overlay: what to install.
        state: gets the authority, where it is made here, and the administrator's certificate.
        dry_run: only have the API server check everything.
        wait_s: for how long to wait for the rollout; 0: not at all.
        replace: ConfigMaps, too, that their owner has edited since they were installed.
    """
    folder = manifests(overlay)
    kubectl = Kubectl()
    print(f"cluster {kubectl.cluster()}, manifests {folder}", flush=True)
    documents = [one for one in yaml.safe_load_all(kubectl("kustomize", str(folder))) if one]
    rehearsed = _rehearse(kubectl, documents)
    spared = [] if replace else edited.kept(kubectl, documents)
    for one in spared:
        print(f"kept as its owner has edited it (--replace overwrites it): {_name(one)}", flush=True)
    documents = [edited.marked(one) for one in documents if one not in spared]
    if dry_run:
        _tell(rehearsed)
        return int(Exit.HELD)
    left = (
        f"`blackstart stop --all` and then `kubectl delete -k {folder}` remove all of it, the controller's records too"
    )
    try:
        _apply(kubectl, documents, state)
        if wait_s:
            controllers, agents = rollout.wait(kubectl, wait_s)
            print(f"ready: {controllers} controller, {agents} agents")
    except KeyboardInterrupt:
        print(f"\nno longer waiting. What was applied stays; {left}", flush=True)
        return int(Exit.INCONCLUSIVE)
    except BlackstartError as error:
        error.args = (f"{error}\n{left}",)
        raise
    print(
        "to connect:\n"
        "  kubectl -n blackstart port-forward service/blackstart-controller 7400 &\n"
        f"  export BLACKSTART_CONTROLLER=localhost:7400 BLACKSTART_CERTS={state / 'admin'}\n"
        f"  blackstart agents list\n{left}",
        flush=True,
    )
    return int(Exit.HELD)


def manifests(overlay: str) -> Path:
    """The folder of *overlay*; RefusedError with what there is."""
    for folder in (ROOT / "overlays" / overlay, ROOT / overlay, Path(overlay).absolute()):
        if (folder / "kustomization.yaml").is_file():
            return folder
    if not ROOT.is_dir():
        raise RefusedError(f"the manifests are not at {ROOT}: they come with the source tree, not with the wheel")
    known = ", ".join(["base", *sorted(path.name for path in (ROOT / "overlays").iterdir())])
    raise RefusedError(f"no overlay {overlay!r}: one of {known}, or a directory with a kustomization.yaml")


def _rehearse(kubectl: Kubectl, documents: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """A server-side dry run of each: its name, and in which namespace it was checked, where that is not its own.

    What belongs into a namespace that is not there yet is checked in another: the API server could not judge it else.
    Pod Security, which is a namespace's, then speaks only when the pods are made.
    """
    there = {item["metadata"]["name"] for item in kubectl.json("get", "namespaces")["items"]}
    rows, checked = [], []
    for document in documents:
        namespace = document["metadata"].get("namespace")
        elsewhere = namespace is not None and namespace not in there
        one = document
        if elsewhere:
            one = {**document, "metadata": {**document["metadata"], "namespace": _ELSEWHERE}}
        rows.append((_name(document), _ELSEWHERE if elsewhere else ""))
        checked.append(one)
    command = (*_APPLY, "--dry-run=server", "--force-conflicts", "-f", "-")
    done = kubectl.attempt(*command, given=yaml.safe_dump_all(checked))
    if done.returncode:
        raise translated(done.stderr)
    return rows


def _apply(kubectl: Kubectl, documents: list[dict[str, Any]], state: Path) -> None:
    def apply(some: Iterable[dict[str, Any]]) -> None:
        kubectl(*_APPLY, "--force-conflicts", "-f", "-", given=yaml.safe_dump_all(some))

    apply(one for one in documents if one["kind"] == "Namespace")
    brought = any(one["kind"] == "Certificate" and one["metadata"]["name"] == authority.NAME for one in documents)
    if not brought:
        authority.made_here(kubectl, state)
        print(f"authority {authority.NAME}, state {state}", flush=True)
    apply(one for one in documents if one["kind"] != "Namespace")
    ca_pem = authority.awaited(kubectl, state, lambda line: print(line, flush=True))
    apply([authority.join(ca_pem)])
    print(f"applied: {len(documents)} objects", flush=True)


def _tell(rows: list[tuple[str, str]]) -> None:
    for name, elsewhere in rows:
        how = f" (checked in namespace {elsewhere}: its own is not there yet)" if elsewhere else ""
        print(f"would apply {name}{how}")
    print(f"would make the secret {authority.NAME} and the join file of the agents")
    print(f"dry run: the API server takes all {len(rows)} objects; nothing was changed")


def _name(document: dict[str, Any]) -> str:
    namespace = document["metadata"].get("namespace")
    return f"{document['kind']} {f'{namespace}/' if namespace else ''}{document['metadata']['name']}"
