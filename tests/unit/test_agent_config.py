"""Flags, then environment, then file; what the downward API leaves empty is left out."""

import pytest

from agent import config
from protos.error import SpecError

FILE = "id: from-file\ncontroller: file:1\nlabels: {role: file, site: a}\n"
POD = {
    "BLACKSTART_AGENT_ID": "node-1",
    "BLACKSTART_AGENT_CONTROLLER": "service:7400",
    "BLACKSTART_AGENT_LABELS": "node=node-1, zone=,role=gpu",
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "agent.yaml"
    path.write_text(FILE)
    return path


def test_the_environment_comes_before_the_file_and_its_labels_beside_the_file_s(file):
    found = config.load(file, {}, POD)
    assert (found.id, found.controller) == ("node-1", "service:7400")
    assert found.labels == {"node": "node-1", "role": "gpu", "site": "a"}


def test_flags_come_before_the_environment(file):
    found = config.load(file, {"id": "flag", "labels": {"only": "this"}}, POD)
    assert (found.id, found.controller, found.labels) == ("flag", "service:7400", {"only": "this"})


def test_without_an_environment_the_file_stands(file):
    found = config.load(file, {}, {})
    assert (found.id, found.labels) == ("from-file", {"role": "file", "site": "a"})


@pytest.mark.parametrize("text", ["role", "=x", "a=1,b"])
def test_what_is_no_label_is_one_error(file, text):
    with pytest.raises(SpecError, match=r"BLACKSTART_AGENT_LABELS.*is not key=value"):
        config.load(file, {}, {"BLACKSTART_AGENT_LABELS": text})


def test_labels_of_the_file_that_are_no_mapping_are_an_error(tmp_path):
    (tmp_path / "agent.yaml").write_text("labels: [a, b]\n")
    with pytest.raises(SpecError, match="labels"):
        config.load(tmp_path / "agent.yaml", {}, POD)
