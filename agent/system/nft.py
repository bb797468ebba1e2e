"""nftables through libnftables, in this process, so that a table can be *owned*.

A table with `flags owner` belongs to the netlink socket that made it: nobody else can change it, and the kernel removes
it when the socket closes, however the process ends.

Source: nft(8), "TABLES"; libnftables(3).
"""

from __future__ import annotations

import ctypes
import functools
from typing import Final

_NAMES: Final = ("libnftables.so.1", "libnftables.so")


def missing() -> str:
    """What is missing for nftables; empty when it is there."""
    try:
        _load()
    except OSError:
        return "libnftables (install nftables)"
    return ""


@functools.cache
def lacks(commands: str) -> str:
    """What the kernel, or the library, says against *commands*; empty when it would carry them out. Changes nothing.

    A dry run: the kernel checks the whole transaction, modules and all, and then drops it.
    """
    try:
        Tables(dry=True).run(commands)
    except OSError as error:
        return str(error).splitlines()[0]
    return ""


def _load() -> ctypes.CDLL:
    failure: OSError | None = None
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            failure = error
    assert failure is not None
    raise failure


class Tables:
    """One netlink socket, in the network namespace that the thread is in when it is made."""

    def __init__(self, *, dry: bool = False) -> None:
        self._library = _load()
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        self._library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
            function = getattr(self._library, name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
        for name in ("nft_ctx_buffer_error", "nft_ctx_buffer_output"):
            getattr(self._library, name).argtypes = [ctypes.c_void_p]
        self._library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
        self._library.nft_ctx_free.argtypes = [ctypes.c_void_p]
        self._context = self._library.nft_ctx_new(0)
        self._library.nft_ctx_set_dry_run(self._context, dry)
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_buffer_output(self._context)

    def run(self, commands: str) -> str:
        """Carries out *commands* as one transaction; OSError with nft's own words if the kernel refuses."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context)
        if failed:
            error = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
            raise OSError(f"nftables: {error.strip()}")
        return str(output.decode(errors="replace"))

    def close(self) -> None:
        """Closes the socket: the kernel removes the tables that it owns."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def __del__(self) -> None:
        self.close()
