"""A pod joins a real controller as the agent of its node, by a token that the API server reviews, and no other way."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from blackstart.local.cluster.node import fake_nodes
from tests.cluster.conftest import Kubectl
from tests.integration.controller_rig import ControllerProcess

pytestmark = pytest.mark.timeout(180)
NAMESPACE, ACCOUNT, NODE = "agents", "agent", "played-0"


@pytest.fixture(scope="module")
def cluster(programs, plane):
    """kubectl; a pod of the agents' account on a played node, and the controller's own account, with its one right."""
    kubectl = Kubectl(programs["kubectl"], plane.admin)
    fake_nodes(programs["kubectl"], plane.admin, 1)
    kubectl("create", "namespace", NAMESPACE)
    for account in (ACCOUNT, "controller", "stranger", "powerless"):
        kubectl("-n", NAMESPACE, "create", "serviceaccount", account)
    kubectl("create", "clusterrole", "reviews", "--verb=create", "--resource=tokenreviews.authentication.k8s.io")
    kubectl(
        "create", "clusterrolebinding", "reviews", "--clusterrole=reviews", f"--serviceaccount={NAMESPACE}:controller"
    )
    for name, account in (("mine", ACCOUNT), ("foreign", "stranger")):
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"serviceAccountName": account, "nodeName": NODE,
                     "containers": [{"name": "main", "image": "nothing.invalid/none"}]},
        }  # fmt: skip
        kubectl("create", "-f", "-", document=pod)
    return kubectl


def token(cluster, account: str = ACCOUNT, *, audience: str = "blackstart", pod: str = "", node: str = "") -> str:
    bound = [f"--bound-object-kind={'Pod' if pod else 'Node'}", f"--bound-object-name={pod or node}"] * bool(
        pod or node
    )
    audiences = [f"--audience={audience}"] if audience else []
    return cluster("-n", NAMESPACE, "create", "token", account, *audiences, *bound).strip()


def account_folder(cluster, plane, place, account: str):
    """As a pod has it mounted."""
    place.mkdir()
    (place / "token").write_text(token(cluster, account, audience=""))
    (place / "ca.crt").write_bytes(plane.authority.pair.cert.read_bytes())
    return place


@pytest.fixture(scope="module")
def controller(cluster, plane, tmp_path_factory):
    folder = tmp_path_factory.mktemp("controller")
    place = account_folder(cluster, plane, folder / "account", "controller")
    with ControllerProcess(folder / "state", **settings(plane, place)) as made:
        yield made


def settings(plane, place) -> dict[str, str]:
    prefix = "BLACKSTART_CONTROLLER_KUBERNETES__"
    return {
        f"{prefix}AGENTS": f"{NAMESPACE}/{ACCOUNT}",
        f"{prefix}SERVER": plane.server,
        f"{prefix}ACCOUNT": str(place),
    }


def enrol(controller, folder, held: str, agent: str = NODE, *options: str) -> subprocess.CompletedProcess[str]:
    """`blackstart-agent enrol`, with the environment of a pod."""
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(held)
    document = {
        "token_file": str(folder / "token"), "address": controller.ready["address"],
        "enrol_address": controller.ready["enrol_address"], "ca_pem": (controller.state / "pki/ca/ca.pem").read_text(),
    }  # fmt: skip
    (folder / "join.json").write_text(json.dumps(document))
    command = [
        sys.executable,
        "-m",
        "agent",
        "enrol",
        str(folder / "join.json"),
        "--state",
        str(folder / "state"),
        *options,
    ]
    environment = os.environ | {"BLACKSTART_AGENT_ID": agent}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)


def name(folder) -> str:
    held = x509.load_pem_x509_certificate((folder / "state" / "certs" / "cert.pem").read_bytes())
    return str(held.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_a_pod_joins_as_the_agent_of_its_node_once_and_again(cluster, controller, tmp_path):
    done = enrol(controller, tmp_path / "a", token(cluster, pod="mine"))
    assert done.returncode == 0, done.stderr
    assert name(tmp_path / "a") == NODE
    before = (tmp_path / "a/state/certs/cert.pem").read_bytes()
    again = enrol(controller, tmp_path / "a", "worthless", NODE, "--if-needed")
    assert (again.returncode, "has a valid certificate" in again.stdout) == (0, True), again.stderr
    assert (tmp_path / "a/state/certs/cert.pem").read_bytes() == before
    other = enrol(controller, tmp_path / "a", "worthless", "another", "--if-needed")
    assert other.returncode == 2, "a certificate of another name is none"
    fresh = enrol(controller, tmp_path / "b", token(cluster, pod="mine"))
    assert fresh.returncode == 0, "a pod that was made anew joins again"


@pytest.mark.parametrize(
    ("of", "agent", "why"),
    [
        (lambda cluster: token(cluster, pod="mine"), "played-1", "joins as agent played-0, and not as 'played-1'"),
        (
            lambda cluster: token(cluster, "stranger", pod="foreign"),
            NODE,
            "the token is of system:serviceaccount:agents:stranger",
        ),
        (lambda cluster: token(cluster, audience="", pod="mine"), NODE, "the cluster does not know this token"),
        (token, NODE, "the token is bound to no pod"),
        (lambda cluster: token(cluster, node=NODE), NODE, "the token is bound to no pod"),
        (lambda cluster: token(cluster, pod="mine") + "A" * 8192, NODE, "has more than 8192 characters"),
        (lambda cluster: token(cluster, pod="mine")[:-6] + "AAAAAA", NODE, "the cluster does not know this token"),
        (lambda _: "a.b.c", NODE, "the cluster does not know this token"),
        (lambda _: "no-web-token", NODE, "the join token is unknown"),
    ],
    ids=[
        "another's name",
        "another's pod",
        "no audience",
        "no pod",
        "a node's",
        "too long",
        "forged",
        "no token at all",
        "not a web token",
    ],
)
def test_what_is_not_the_pods_own_is_refused(cluster, controller, tmp_path, of, agent, why):
    done = enrol(controller, tmp_path / "a", of(cluster), agent)
    assert done.returncode == 2, done.stdout + done.stderr
    assert why in done.stderr
    assert not (tmp_path / "a/state/certs/cert.pem").exists()


def test_the_token_of_a_pod_that_is_gone_is_refused(cluster, controller, tmp_path):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "brief", "namespace": NAMESPACE},
           "spec": {"serviceAccountName": ACCOUNT, "nodeName": NODE,
                    "containers": [{"name": "main", "image": "nothing.invalid/none"}]}}  # fmt: skip
    cluster("create", "-f", "-", document=pod)
    held = token(cluster, pod="brief")
    other = token(cluster, pod="brief")  # not reviewed before: the API server remembers an answer for ten seconds
    assert enrol(controller, tmp_path / "a", other).returncode == 0
    cluster("-n", NAMESPACE, "delete", "pod", "brief", "--grace-period=0", "--force")
    done = enrol(controller, tmp_path / "b", held)
    assert (done.returncode, "does not know this token" in done.stderr) == (2, True), done.stderr


def test_without_the_right_to_review_the_controller_says_which_it_lacks(cluster, plane, tmp_path):
    place = account_folder(cluster, plane, tmp_path / "account", "powerless")
    with ControllerProcess(tmp_path / "state", **settings(plane, place)) as controller:
        done = enrol(controller, tmp_path / "a", token(cluster, pod="mine"))
    assert done.returncode != 0
    assert "(403): let the controller's account create tokenreviews" in done.stderr


def test_a_controller_that_is_told_of_no_cluster_believes_no_pod(cluster, tmp_path):
    with ControllerProcess(tmp_path / "state") as controller:
        done = enrol(controller, tmp_path / "a", token(cluster, pod="mine"))
    assert (done.returncode, "the join token is unknown" in done.stderr) == (2, True), done.stderr
