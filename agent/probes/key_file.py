"""A key that signs requests, out of a file on this node, as `~/.aws/credentials` has it.

Invariant: the secret and the session token are in that file and in this process's memory only: what is wrong with the
file is said without a word of its content. The file is read again when it changes: keys that rotate go on working.
"""

from __future__ import annotations

import configparser
import os
import time
from dataclasses import dataclass, field
from typing import Final

import structlog

from agent.system import small_file
from protos.error import ProbeError

BYTES_MAX: Final = 65_536
_SETTLED_NS: Final = 1_000_000_000  # a file that is younger may change again within one tick of its own clock
_FIELDS: Final = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


@dataclass(frozen=True, slots=True)
class Key:
    """As signers want it; its `repr` says nothing."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


class KeyFile:
    """The section *profile* of the file at *path*."""

    def __init__(self, path: str, profile: str) -> None:
        self._path, self._profile = path, profile
        self._key: Key | None = None
        self._read_of: tuple[int, ...] | None = None  # what the file was when it was read; None: it was still young
        self._failed = False
        self._log = structlog.get_logger("agent.probes")

    def key(self) -> Key:
        """The key as the file has it now, or as it had it last, where it cannot be read any more.

        Raises:
            ProbeError: it was never there.
        """
        try:
            status = os.stat(self._path)
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        except (OSError, ValueError):
            identity = None
        if self._key is not None and identity is not None and identity == self._read_of:
            return self._key
        found = read(self._path, self._profile)
        if isinstance(found, Key):
            self._key, self._failed = found, False
            young = identity is None or abs(time.time_ns() - identity[-1]) < _SETTLED_NS
            self._read_of = None if young else identity
            return found
        if self._key is None:
            raise ProbeError(f"{self._path}: {found}")
        if not self._failed:
            self._failed = True  # once, not a hundred times a second
            self._log.warning("the key of before goes on being used", path=self._path, why=found)
        return self._key


def read(path: str, profile: str) -> Key | str:
    """The key of *profile* in the file at *path*, or what is wrong with it."""
    try:
        content = small_file.read(path, BYTES_MAX)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError as error:  # of `small_file`, which does not quote what it reads
        return f"cannot be read: {error}"
    return _parsed(content, profile)


def _parsed(content: bytes, profile: str) -> Key | str:
    parser = configparser.RawConfigParser()  # a secret may hold a %
    try:
        parser.read_string(content.decode())
    except (configparser.Error, UnicodeDecodeError):  # they quote the line
        return "is no INI file, such as ~/.aws/credentials"
    if not parser.has_section(profile):
        return f"has no section [{profile}]"
    rows = {name: parser.get(profile, name, fallback="") for name in _FIELDS}
    for name, value in rows.items():
        if not value and name != "aws_session_token":
            return f"has no {name} in section [{profile}]"
        if not value.isascii() or not value.isprintable() or " " in value:
            return f"has something in {name} of section [{profile}] that no key has"
    return Key(*rows.values())
