"""Reading a small file whose path comes from outside: what else may stand there is neither waited for nor read on."""

from __future__ import annotations

import os
import stat


def read(path: str, most_bytes: int) -> bytes:
    """The content of the regular file at *path*.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular file, is larger than *most_bytes*, or no path at all.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        content = os.read(descriptor, most_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > most_bytes:
        raise ValueError(f"larger than {most_bytes} bytes")
    return content
