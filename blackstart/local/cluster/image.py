"""A container image without a registry: busybox, and what its caller adds, as an archive that every engine imports."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from protos.error import BlackstartError, RefusedError

BUSYBOX: Final = Path("/bin/busybox")
_FOLDERS: Final = ("bin", "dev", "etc", "proc", "run", "srv", "sys", "tmp")


def missing() -> str:
    return "" if BUSYBOX.exists() else "install busybox-static"


def archive(path: Path, name: str, command: Sequence[str] = ("sh",), files: Mapping[str, bytes] | None = None) -> Path:
    """Writes the image *name* to *path*, in the format of `docker save`.

    Args:
        path: of the archive.
        name: with its tag.
        command: what a container of it runs unless told otherwise.
        files: more of them, by place.

    Raises:
        RefusedError: busybox is not installed.
        BlackstartError: it does not run.
    """
    if told := missing():
        raise RefusedError(f"no image can be made: {told}")
    done = subprocess.run([str(BUSYBOX), "--list"], capture_output=True, text=True, check=False, timeout=10)
    if done.returncode:
        raise BlackstartError(f"{BUSYBOX} --list failed: {done.stderr.strip()}")
    layer = _layer(done.stdout.split(), files or {})
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }  # fmt: skip
    content = json.dumps(config).encode()
    named = f"{hashlib.sha256(content).hexdigest()}.json"
    manifest = [{"Config": named, "RepoTags": [name], "Layers": ["layer.tar"]}]
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w") as out:
        for place, data in ((named, content), ("layer.tar", layer), ("manifest.json", json.dumps(manifest).encode())):
            _add(out, place, data, 0o644)
    partial.replace(path)
    return path


def _layer(applets: list[str], files: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as out:
        for folder in _FOLDERS:
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            out.addfile(info)
        _add(out, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                out.addfile(link)
        for place, data in files.items():
            _add(out, place.lstrip("/"), data, 0o755)
    return held.getvalue()


def _add(out: tarfile.TarFile, place: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(place)
    info.size, info.mode = len(data), mode
    out.addfile(info, io.BytesIO(data))
