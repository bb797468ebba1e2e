"""The controller's settings that its surroundings decide."""

from __future__ import annotations

import pytest

from controller import config
from controller.config import KubernetesSettings
from protos.error import SpecError


@pytest.mark.parametrize(
    ("host", "port", "server"),
    [
        ("10.96.0.1", "443", "https://10.96.0.1:443"),
        ("fd00::1", "6443", "https://[fd00::1]:6443"),
        ("", "", "https://kubernetes.default.svc"),
    ],
)
def test_a_pod_finds_the_api_server_without_a_resolver(
    monkeypatch: pytest.MonkeyPatch, host: str, port: str, server: str
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    assert KubernetesSettings(agents="a/b").server == server
    assert KubernetesSettings(agents="a/b", server="https://elsewhere").server == "https://elsewhere"


def test_the_environment_adds_a_lease_to_the_cluster_that_the_file_names(monkeypatch, tmp_path) -> None:
    """As the overlay high-availability does it: the file is the base's."""
    file = tmp_path / "controller.yaml"
    file.write_text("state: /nowhere\nkubernetes: {agents: a/b}\n")
    assert config.load({}, file).kubernetes.lease == ""
    monkeypatch.setenv("BLACKSTART_CONTROLLER_KUBERNETES__LEASE", "blackstart/blackstart-controller")
    monkeypatch.setenv("BLACKSTART_CONTROLLER_KUBERNETES__ALIVE", "/tmp/alive")
    place = config.load({}, file).kubernetes
    assert (place.agents, place.lease, place.lease_s) == ("a/b", "blackstart/blackstart-controller", 15)
    monkeypatch.setenv("BLACKSTART_CONTROLLER_KUBERNETES__LEASE", "without-a-namespace")
    with pytest.raises(SpecError, match=r"kubernetes\.lease"):
        config.load({}, file)


def test_a_lease_and_an_empty_url_from_a_secret_would_be_two_stores(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("BLACKSTART_CONTROLLER_STORE_URL", "")
    monkeypatch.setenv("BLACKSTART_CONTROLLER_KUBERNETES__AGENTS", "a/b")
    assert config.load({"state": tmp_path}, None).store_url == ""
    monkeypatch.setenv("BLACKSTART_CONTROLLER_KUBERNETES__LEASE", "a/b")
    with pytest.raises(SpecError, match="BLACKSTART_CONTROLLER_STORE_URL: is empty"):
        config.load({"state": tmp_path}, None)
