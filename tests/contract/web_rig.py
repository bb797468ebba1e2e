"""A real nginx on loopback: files, objects by PUT, playlists."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

CONFIGURATION = """\
{user}
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_max_body_size 8m;
  types {{ application/vnd.apple.mpegurl m3u8; }}
  server {{
    listen 127.0.0.1:{port};
    root {folder}/www;
    location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
    location /closed/ {{ dav_methods off; }}
    location /busy/ {{ return 503; }}
    location /away/ {{ return 302 http://127.0.0.1:{port}/; }}
  }}
}}
"""


def missing() -> str:
    return "" if shutil.which("nginx") else "install nginx"


class Nginx:
    """One process; its files are kept over a stop and gone with `remove`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="blackstart-nginx-"))
        self.www = self.folder / "www"
        self.www.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        user = "user root;" if os.getuid() == 0 else ""
        text = CONFIGURATION.format(user=user, folder=self.folder, port=self.port)
        (self.folder / "nginx.conf").write_text(text)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        command = ["nginx", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < until, (self.folder / "error.log").read_text()
                time.sleep(0.01)

    def write(self, name: str, content: bytes | str) -> None:
        """The file at once, as a packager does it."""
        path = self.www / name
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".tmp")
        half.write_bytes(content if isinstance(content, bytes) else content.encode())
        half.rename(path)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
