"""A real store on loopback that checks signatures as S3 does (`tests/servers/s3`), and a key file for its clients."""

from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path
from typing import Any, ClassVar

from protos.recovery import Code
from tests.contract.server_rig import RealRig, Server
from tests.servers import build

REGION = "eu-test-1"
BUCKET = "bucket"


def missing() -> str:
    return build.missing("s3") or ("" if importlib.util.find_spec("botocore") else "install botocore")


class Key:
    """A key id and a secret of nobody else's."""

    def __init__(self) -> None:
        self.id, self.secret = f"AK{secrets.token_hex(8).upper()}", secrets.token_hex(20)

    def text(self, section: str = "default", **more: str) -> str:
        rows = {"aws_access_key_id": self.id, "aws_secret_access_key": self.secret, **more}
        return f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in rows.items())


class Store(Server):
    """One store with one bucket, which is a folder."""

    def __init__(self, key: Key | None = None, region: str = REGION) -> None:
        super().__init__("s3")
        self.key, self.region = key or Key(), region
        self.bucket = self.folder / "objects" / BUCKET
        self.bucket.mkdir(parents=True)
        for name in ("meta", "accounts"):
            (self.folder / name).mkdir()
        (self.folder / "key").write_text(f"{self.key.id}\n{self.key.secret}\n")
        self.credentials = self.folder / "credentials"
        self.credentials.write_text(self.key.text())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{BUCKET}/"

    def spec(self, **more: Any) -> dict[str, Any]:
        return {"url": self.url, "region": self.region, "credentials_path": str(self.credentials), **more}

    def start(self) -> None:
        address = f"127.0.0.1:{self.port}"
        command = [str(build.place("s3")), address, self.region, str(self.folder), str(self.folder / "key")]
        self.launch(command, self.accepts)

    def objects(self) -> list[Path]:
        """What clients have put, wherever in the bucket."""
        return sorted(path for path in self.bucket.rglob("blackstart-*") if path.is_file())


class S3Rig(RealRig):
    kind = "object"
    hangs_as = Code.TIMEOUT
    bad_spec: ClassVar[dict[str, Any]] = {
        "url": "http://x/b/", "region": "eu/west", "credentials_path": "/nowhere", "headers": {"Host": "y"},
        "member_regions": {"z": "eu-west-1"},
    }  # fmt: skip
    bad_fields: ClassVar[set[str]] = {"region", "credentials_path", "headers", "member_regions"}
    missing = staticmethod(missing)

    def make(self) -> Store:
        return Store()

    def spec(self) -> dict[str, Any]:
        return dict(self.server.spec(mode="verify"))
