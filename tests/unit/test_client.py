from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from blackstart.client import Client
from blackstart.settings import Settings, resolve
from protos import blackstart_operator_pb2 as pb
from protos.error import DeniedError, Problem, RefusedError, SpecError, UnreachableError
from tests.scripted_operator import Script, Served, certificate

if TYPE_CHECKING:
    from types import FrameType


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def served(script):
    with Served(script) as running:
        yield running


@pytest.fixture
def client(served):
    with Client(served.settings) as made:
        yield made


def _events(count: int) -> list[pb.RunEvent]:
    return [pb.RunEvent(run_id="r1", number=n, kind="step", message=str(n)) for n in range(1, count + 1)]


def test_watch_goes_on_where_the_connection_broke_and_repeats_nothing(client, script):
    script.events = _events(6)
    script.breaks_after = {2, 5}
    assert [event.number for event in client.watch("r1")] == [1, 2, 3, 4, 5, 6]
    assert [request.after for request in script.called("Watch")] == [0, 2, 5]


def test_watch_begins_after_the_number_that_was_asked_for(client, script):
    script.events = _events(4)
    assert [event.number for event in client.watch("r1", after=3)] == [4]


def test_errors_come_back_as_they_were_raised(client, script):
    script.errors["Submit"] = SpecError(Problem("x.yaml:3", "wrong", "right it"), Problem("x.yaml:9", "worse"))
    with pytest.raises(SpecError) as caught:
        client.submit({"title": "t"})
    assert [problem.where for problem in caught.value.problems] == ["x.yaml:3", "x.yaml:9"]
    script.errors["Stop"] = DeniedError("a viewer may not")
    with pytest.raises(DeniedError, match="a viewer may not"):
        client.stop()


def test_submit_carries_source_variables_and_profile(client, script):
    client.submit({"title": "t"}, source="f.yaml", variables={"a": "1"}, profile={"objectives": {}})
    (request,) = script.called("Submit")
    assert json.loads(request.experiment_json) == {"title": "t"}
    assert (request.source, dict(request.variables)) == ("f.yaml", {"a": "1"})
    assert json.loads(request.profile_json) == {"objectives": {}}


def test_no_profile_means_the_controllers_own(client, script):
    client.submit({"title": "t"})
    assert script.called("Submit")[0].profile_json == ""


def test_invoke_tells_progress_and_returns_the_result(client, script):
    script.results["observe"] = 0.5
    lines: list[str] = []
    assert client.invoke("r1", "observe", {"probe": "p"}, lines.append) == 0.5
    assert lines == ["observe begins"]


def test_a_refusal_of_a_driver_function_is_raised(client, script):
    script.errors["inject"] = RefusedError("blast radius")
    with pytest.raises(RefusedError, match="blast radius"):
        client.invoke("r1", "inject", {})


def test_a_closed_port_is_said_at_once_with_address_and_remedy(served):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    begun = time.monotonic()
    with Client(Settings(address, served.certs)) as client, pytest.raises(UnreachableError) as caught:
        client.runs()
    assert time.monotonic() - begun < 5
    assert address in str(caught.value)
    assert "blackstart up" in str(caught.value)


def test_a_stranger_is_not_taken_for_the_controller(served, tmp_path):
    from controller.pki import Authority

    strangers = certificate(Authority.create(tmp_path / "ca"), tmp_path / "certs")
    with Client(Settings(served.settings.controller, strangers)) as client, pytest.raises(UnreachableError) as caught:
        client.runs()
    assert "ca.pem" in str(caught.value)


def test_an_expired_certificate_is_named_with_file_date_and_remedy(served, tmp_path, monkeypatch):
    brief = certificate(served.authority, tmp_path / "brief", valid_s=1)
    monkeypatch.setattr("time.time", lambda: 4e9)
    with pytest.raises(SpecError) as caught:
        Client(Settings(served.settings.controller, brief))
    (problem,) = caught.value.problems
    assert problem.where == str(brief / "cert.pem")
    assert "expired on 20" in problem.what
    assert problem.remedy


def test_missing_files_are_named(tmp_path):
    with pytest.raises(SpecError, match=r"cert\.pem"):
        Client(Settings("127.0.0.1:1", tmp_path))


def _home(tmp_path: Path, **files: str) -> dict[str, str]:
    for name, content in files.items():
        path = tmp_path / {"config": "c/blackstart/client.yaml", "state": "s/blackstart/client.json"}[name]
        path.parent.mkdir(parents=True)
        path.write_text(content)
    return {"XDG_CONFIG_HOME": str(tmp_path / "c"), "XDG_STATE_HOME": str(tmp_path / "s")}


def test_settings_flags_win_over_environment_over_files(tmp_path):
    environ = _home(
        tmp_path, config="controller: conf:1\ncerts: /conf\n", state='{"controller": "up:1", "certs": "/up"}'
    )
    assert resolve(environ=environ) == Settings("conf:1", resolve(environ=environ).certs)
    assert str(resolve(environ=environ).certs) == "/conf"
    environ["BLACKSTART_CONTROLLER"] = "env:1"
    assert resolve(environ=environ).controller == "env:1"
    assert str(resolve(environ=environ).certs) == "/conf"
    assert resolve("flag:1", "/flag", environ=environ).controller == "flag:1"


def test_settings_fall_back_to_what_up_left_and_name_the_run(tmp_path):
    environ = _home(tmp_path, state='{"controller": "up:1", "certs": "/up"}') | {"BLACKSTART_RUN": "r9"}
    found = resolve(environ=environ)
    assert (found.controller, str(found.certs), found.run) == ("up:1", "/up", "r9")


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "no controller and no certs"),
        ({"BLACKSTART_CONTROLLER": "host", "BLACKSTART_CERTS": "/x"}, "host:port"),
        ({"BLACKSTART_CONTROLLER": "host:99999", "BLACKSTART_CERTS": "/x"}, "host:port"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, environ, says):
    with pytest.raises(SpecError, match=says):
        resolve(environ={"HOME": str(tmp_path)} | environ)


@pytest.mark.parametrize("content", ["[1, 2]", "controller: [", "contoller: x:1"])
def test_a_broken_settings_file_is_named(tmp_path, content):
    with pytest.raises(SpecError, match=r"client\.yaml"):
        resolve(environ=_home(tmp_path, config=content))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("nth", range(12))
def test_ctrl_c_leaves_no_lock_of_grpc_taken(client, script, nth):
    """It is raised where it does harm: where the main thread has just taken a lock of gRPC's, if it takes any."""
    script.events = _events(3)
    client.show("r1")
    taken = 0

    def interrupt(frame: FrameType, event: str, argument: object) -> None:
        nonlocal taken
        del argument
        caller = frame.f_back.f_code.co_filename if frame.f_back is not None else ""
        if event == "return" and frame.f_code.co_qualname == "Condition.__enter__" and "/grpc/" in caller:
            taken += 1
            if taken == nth + 1:
                raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            for _event in client.watch("r1"):
                pass
    finally:
        sys.setprofile(None)
    assert client.show("r1")[0].id == "r1"


def test_ctrl_c_at_any_moment_of_a_watch_leaves_the_client_usable(client, script):
    script.events = _events(300)
    client.show("r1")
    rng = random.Random(4)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(60):
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.001, 0.02))
                for _event in client.watch("r1"):
                    pass
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert client.show("r1")[0].id == "r1"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
