"""Servers for tests that no distribution packages: `make servers` builds them, and `make test` does first.

Tests have no network but their own. A folder here is a server, and a Go module.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Final

from blackstart.local.gobuild import Module
from protos.error import BlackstartError

HERE: Final = Path(__file__).parent


def module(name: str) -> Module:
    return Module(HERE / name, {name: "."}, "servers", "run `make servers`")


def place(name: str) -> Path:
    """Where the program of these very sources is, once it is built."""
    return module(name).place() / name


def missing(name: str) -> str:
    """Empty where the server can be started, else what to do about it."""
    return module(name).missing()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = False
    for path in sorted(HERE.iterdir()):
        if (path / "go.mod").exists():
            try:
                module(path.name).build()
            except BlackstartError as error:
                print(error, file=sys.stderr)
                failed = True
            except KeyboardInterrupt:
                print(f"interrupted: {path.name} is not built", file=sys.stderr)
                return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
