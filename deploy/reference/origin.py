"""The origin: serves the playlists and segments that the workers write, and says which channels are fresh.

Invariant: nothing outside DIR/www is ever served.

Usage: origin.py SETTINGS
"""

from __future__ import annotations

import os
import sys
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import web
from lifeline import announce, die_with_parent
from playlist import load
from settings import Settings, rung_name

_CONTENT_TYPES: Final = {
    ".m3u8": ("application/vnd.apple.mpegurl", "no-cache"),
    ".m4s": ("video/iso.segment", "max-age=60"),
    ".mp4": ("video/mp4", "max-age=60"),
}


class Origin:
    """The answers of the origin."""

    def __init__(self, settings: Settings, restarts: int) -> None:
        self._www = settings.www.resolve()
        self._settings = settings
        self._restarts = restarts

    def answer(self, path: str) -> web.Answer:
        if path == "/healthz":
            body = {
                "origin": "origin",
                "pid": os.getpid(),
                "restarts": self._restarts,
                "clip": self._settings.provenance,
            }
            return web.document(body | {"channels": self._settings.workers})
        if path.startswith("/fresh/"):
            return self._fresh(path)
        return self._file(path)

    def _fresh(self, path: str) -> web.Answer:
        """Whether the channel's newest segment is young enough: the oldest of its rungs decides."""
        channel = path.removeprefix("/fresh/")
        if channel not in {str(number) for number in range(1, self._settings.workers + 1)}:
            return web.not_found(path)
        ages_s = [self._age_s(self._www / channel / rung_name(height)) for _, height in self._settings.ladder]
        known = [age_s for age_s in ages_s if age_s is not None]
        age_s = max(known) if len(known) == len(ages_s) else None
        body = {
            "channel": channel,
            "age_s": None if age_s is None else round(age_s, 3),
            "stale_after_s": self._settings.stale_after_s,
        }
        return web.document(body, well=age_s is not None and age_s < self._settings.stale_after_s)

    def _age_s(self, rung: Path) -> float | None:
        try:
            entries = load(rung / "index.m3u8").entries
            return time.time() - (rung / entries[-1].name).stat().st_mtime if entries else None
        except (OSError, ValueError):
            return None

    def _file(self, path: str) -> web.Answer:
        wanted = Path(os.path.normpath(f"{self._www}/{unquote(path)}")) if "\0" not in unquote(path) else self._www
        kind = _CONTENT_TYPES.get(wanted.suffix)
        try:
            real = wanted.resolve(strict=True)
            if kind is None or not real.is_relative_to(self._www) or not real.is_file():
                return web.not_found(path)
            return web.Answer(HTTPStatus.OK, real.read_bytes(), kind[0], {"Cache-Control": kind[1]})
        except OSError:
            return web.not_found(path)


def main() -> None:
    die_with_parent()
    settings = Settings.load(Path(sys.argv[1]))
    origin = Origin(settings, announce(settings.run, "origin"))
    web.serve(settings.host, settings.port_base, origin.answer)
    threading.Event().wait()


if __name__ == "__main__":
    main()
