"""The probe `object` on a store that checks signatures: what it takes, what it refuses, and what nobody may see."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from agent.probes import key_file
from agent.probes.registry import build
from agent.system import preload
from protos.error import SpecError
from protos.recovery import Code
from tests.contract import s3_rig
from tests.contract.edge_rig import asked
from tests.contract.s3_rig import Key, Store

pytestmark = pytest.mark.skipif(bool(s3_rig.missing()), reason=s3_rig.missing() or "-")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def store():
    made = Store()
    made.start()
    yield made
    made.remove()


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "a/b//",
        "with%20space/",
        "plus+and%2Bplus/",
        "(a)!*'~;x=1:@&$,/",
        "%C3%BC%E2%82%AC/",
        "percent%2520/",
        "a%2Fb/",
    ],
)
async def test_names_are_encoded_once(store, prefix):
    """Written out as they are sent by browsers, too, which leave some characters alone."""
    url = store.url + prefix
    probe = build("object", store.spec(url=url, mode="put"), lambda _: False)
    await probe.open()
    assert await probe.attempt(5.0) is Code.OK
    (path,) = store.objects()
    assert str(path.parent.relative_to(store.bucket)) == os.path.normpath(unquote(prefix) or ".")
    await probe.close()
    assert await asked("object", **store.spec(url=url, mode="verify", size_bytes=100_000, keepalive=True)) is Code.OK
    assert store.objects() == [], "it takes away what it had put, by signed requests"


async def test_an_object_by_its_url_and_headers_that_are_signed(store):
    (store.bucket / "there").write_text("x")
    url = f"{store.url}there"
    assert await asked("object", **store.spec(url=url)) is Code.OK
    assert await asked("object", **store.spec(url=f"{url}?response-content-type=text%2Fplain&partNumber=1")) is Code.OK
    assert await asked("object", **store.spec(url=f"{store.url}away")) is Code.BAD
    headers = {"x-amz-meta-of": "a  test", "Content-Type": "text/plain", "Accept-Encoding": "identity"}
    assert await asked("object", **store.spec(mode="verify", headers=headers)) is Code.OK


async def test_what_is_not_signed_right_is_refused_and_leaves_no_object(store, tmp_path, capsys):
    wrong, foreign = Key(), Key()
    wrong.id = store.key.id
    for name, key, code in (("wrong", wrong, "SignatureDoesNotMatch"), ("foreign", foreign, "InvalidAccessKeyId")):
        (tmp_path / name).write_text(key.text())
        assert await asked("object", **store.spec(mode="put", credentials_path=str(tmp_path / name))) is Code.BAD
        said = capsys.readouterr().out
        assert code in said
        assert key.secret not in said
    assert await asked("object", **store.spec(mode="put", region="us-east-1")) is Code.BAD
    assert "AuthorizationHeaderMalformed: the region" in capsys.readouterr().out
    assert await asked("object", url=store.url, mode="put") is Code.BAD, "not signed at all"
    assert store.objects() == []


async def test_a_body_that_is_changed_on_the_way_is_refused(store):
    """A proxy that writes the object's content anew."""

    async def carry(reader, writer, change):
        while part := await reader.read(65_536):
            head, end, body = part.partition(b"\r\n\r\n")
            writer.write(head + end + (body.upper() if change else body))
        writer.close()

    async def serve(reader, writer):
        onward = await asyncio.open_connection("127.0.0.1", store.port)
        await asyncio.gather(carry(reader, onward[1], changes), carry(onward[0], writer, change=False))

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = store.url.replace(str(store.port), str(proxy.sockets[0].getsockname()[1]))
    for changes in (False, True):
        assert await asked("object", **store.spec(url=url, mode="put")) is (Code.BAD if changes else Code.OK)
    proxy.close()
    assert store.objects() == []


async def test_a_key_that_rotates_goes_on_working_and_one_that_is_gone_is_remembered(store):
    probe = build("object", store.spec(mode="put", profile="other", credentials_path=_other(store)), lambda _: False)
    await probe.open()
    assert await probe.attempt(5.0) is Code.OK
    path = Path(_other(store, Key()))
    assert await probe.attempt(5.0) is Code.BAD, "the store does not know the new one"
    _other(store)
    assert await probe.attempt(5.0) is Code.OK
    path.write_text("[other\naws_access_key_id")
    assert await probe.attempt(5.0) is Code.OK, "half written: the key of before"
    path.unlink()
    assert await probe.attempt(5.0) is Code.OK
    await probe.close()
    assert store.objects() == []


def _other(store, key=None):
    half = store.folder / "half"
    half.write_text((key or store.key).text("other"))
    half.rename(store.folder / "other")
    return str(store.folder / "other")


async def test_a_session_token_is_sent_signed_and_not_told(store, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    store.credentials.write_text(store.key.text(aws_session_token="to/ken+of=a==session%"))
    probe = build("object", store.spec(mode="put"), lambda _: False)
    await probe.open()
    assert await probe.attempt(5.0) is Code.BAD, "the store gives out no tokens, so it knows none"
    url, headers = probe._signer.sign("PUT", store.url, b"x", "eu-test-1")
    assert (url, headers["X-Amz-Security-Token"]) == (store.url, "to/ken+of=a==session%")
    assert "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token," in headers["Authorization"]
    await probe.close()
    output = "".join(capsys.readouterr())
    assert "InvalidToken: the store does not know" in output
    told = caplog.text + output + repr(probe.__dict__) + repr(probe._signer._keys.key())
    assert "to/ken" not in told
    assert store.key.secret not in told


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{secret}\n", "is no INI file"),
        ("[default]\n{secret}\n", "is no INI file"),
        ("[default]\naws_secret_access_key={secret}\naws_secret_access_key={secret}\n", "is no INI file"),
        ("[other]\naws_secret_access_key={secret}\n", r"has no section \[default\]"),
        ("[default]\naws_secret_access_key={secret}\n", "has no aws_access_key_id"),
        ("[default]\naws_access_key_id=A\naws_secret_access_key=\n", "has no aws_secret_access_key"),
        ("[default]\naws_access_key_id=A\naws_secret_access_key={secret}\n  {secret}\n", "that no key has"),
        ("[default]\naws_access_key_id=A\naws_secret_access_key={secret}\u00fc\n", "that no key has"),
        ("[default]\n#" + "x" * key_file.BYTES_MAX, "larger than"),
    ],
)
def test_a_bad_key_file_is_named_without_a_word_of_it(tmp_path, content, why):
    path, secret = tmp_path / "credentials", Key().secret
    path.write_text(content.replace("{secret}", secret))
    spec = {"url": "http://x/b/", "region": "eu-west-1", "credentials_path": str(path)}
    with pytest.raises(SpecError, match=why) as caught:
        build("object", spec, lambda _: False)
    assert secret not in str(caught.value)
    assert (caught.value.__context__, caught.value.__cause__) == (None, None), "parsers quote lines"


async def test_a_request_that_cannot_be_signed_tells_no_secret(store):
    probe = build("object", store.spec(), lambda _: False)
    await probe.open()
    with pytest.raises(Exception, match="could not be signed") as caught:
        probe._signer.sign("PUT", store.url, 5, "eu-test-1")
    assert caught.value.__context__ is None, "its traceback would show variables of the signer"
    await probe.close()


async def test_a_clock_that_is_an_hour_off_is_bad_and_the_log_says_so(store, tmp_path):
    if not preload.installed():
        pytest.skip("install libfaketime")
    program = (
        "import asyncio, json, sys\nfrom tests.contract.edge_rig import asked\n"
        "print(int(asyncio.run(asked('object', **json.loads(sys.argv[1])))))"
    )
    (tmp_path / "ahead").write_text("+1h")
    environment = preload.environment("ahead", str(tmp_path), preload.installed(), monotonic=False, base=os.environ)
    command = [sys.executable, "-c", program, json.dumps(store.spec(mode="put"))]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert f"\n{int(Code.BAD)}\n" in done.stdout
    assert "RequestTimeTooSkewed: this node's clock and the store's" in done.stdout
    assert store.objects() == []


def test_a_key_file_that_has_settled_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "credentials"
    path.write_text(Key().text())
    file = key_file.KeyFile(str(path), "default")
    reads, real = [], key_file.read
    monkeypatch.setattr(key_file, "read", lambda *place: reads.append(place) or real(*place))
    first = file.key()
    file.key()
    assert len(reads) == 2, "it is young"
    monkeypatch.setattr(time, "time_ns", lambda real=time.time_ns: real() + 10**10)
    assert [file.key() for _ in range(5)] == [first] * 5
    assert len(reads) == 3
