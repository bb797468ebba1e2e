"""Stand-ins for NVIDIA's driver libraries, compiled by the tests. They show that the calls are made and undone as they
should be; nothing of how a real GPU behaves."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = ("libnvidia-ml.so.1", "libcuda.so.1", "libnvidia-encode.so.1")
SOURCE = Path(__file__).with_name("gpu.c")
HEADER = Path("/usr/include/ffnvcodec/nvEncodeAPI.h")


def missing() -> str:
    """What they cannot be compiled without; empty if they can."""
    if shutil.which("cc") is None:
        return "install gcc and libc6-dev"
    return "" if HEADER.exists() else "install libffmpeg-nvenc-dev"


@functools.cache
def libraries() -> Path:
    """A directory with the three libraries; kept in this process, so that they are found by their names."""
    folder = Path(tempfile.mkdtemp(prefix="blackstart-standin-"))
    for name in NAMES:
        command = [
            "cc",
            "-shared",
            "-fPIC",
            "-O1",
            "-Wall",
            f"-Wl,-soname,{name}",
            "-o",
            str(folder / name),
            str(SOURCE),
        ]
        subprocess.run(command, check=True, capture_output=True)
        ctypes.CDLL(str(folder / name))
    return folder


def environment(state: Path) -> dict[str, str]:
    """For processes that are to see the GPU whose state stands in *state*."""
    found = [str(libraries()), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"BLACKSTART_STANDIN_GPU": str(state), "LD_LIBRARY_PATH": ":".join(found)}
