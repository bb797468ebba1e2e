"""A real nginx on loopback: files, objects by PUT, playlists."""

from __future__ import annotations

import os
import shutil

from tests.contract.server_rig import Server

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


class Nginx(Server):
    """One process."""

    def __init__(self) -> None:
        super().__init__("nginx")
        self.www = self.folder / "www"
        self.www.mkdir()
        user = "user root;" if os.getuid() == 0 else ""
        text = CONFIGURATION.format(user=user, folder=self.folder, port=self.port)
        (self.folder / "nginx.conf").write_text(text)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        self.launch(["nginx", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")], self.accepts)

    def write(self, name: str, content: bytes | str) -> None:
        """The file at once, as a packager does it."""
        path = self.www / name
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".tmp")
        half.write_bytes(content if isinstance(content, bytes) else content.encode())
        half.rename(path)
