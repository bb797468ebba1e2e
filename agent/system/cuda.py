"""The little of the CUDA driver API and of NVENC that faults need, by ctypes: no toolkit has to be installed.

Source: CUDA Driver API reference; nvEncodeAPI.h of the Video Codec SDK 11.1 (list version 2, session version 1).
"""

from __future__ import annotations

import ctypes
import uuid as uuids
from typing import Any, Final

NVENC_OUT_OF_MEMORY: Final = 10  # NV_ENC_ERR_OUT_OF_MEMORY: what an exhausted encoder answers
_API: Final = 11 | 1 << 24  # NVENCAPI_VERSION 11.1: drivers accept what is older than they are
_DEVICE_TYPE_CUDA: Final = 1


def _version(number: int) -> int:
    return _API | number << 16 | 0x7 << 28


class FunctionList(ctypes.Structure):
    """NV_ENCODE_API_FUNCTION_LIST, as far as nvEncOpenEncodeSessionEx, and room for the rest."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("before", ctypes.c_void_p * 29),
        ("open_session", ctypes.c_void_p),
        ("rest", ctypes.c_void_p * 512),
    )


class SessionParameters(ctypes.Structure):
    """NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("device_type", ctypes.c_uint32),
        ("device", ctypes.c_void_p),
        ("reserved", ctypes.c_void_p),
        ("api_version", ctypes.c_uint32),
        ("reserved1", ctypes.c_uint32 * 253),
        ("reserved2", ctypes.c_void_p * 64),
    )


class Context:
    """A CUDA context on one GPU; all that is allocated in it goes with the process. OSError if it cannot be had."""

    def __init__(self, uuid: str) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        _check(self._cuda.cuInit(0), "cuInit")
        self.handle = ctypes.c_void_p()
        _check(self._cuda.cuCtxCreate_v2(ctypes.byref(self.handle), 0, self._ordinal(uuid)), "cuCtxCreate")

    def _ordinal(self, uuid: str) -> Any:
        count, wanted = ctypes.c_int(), uuids.UUID(uuid.removeprefix("GPU-")).bytes
        _check(self._cuda.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
        for ordinal in range(count.value):
            device, found = ctypes.c_int(), (ctypes.c_ubyte * 16)()
            _check(self._cuda.cuDeviceGet(ctypes.byref(device), ordinal), "cuDeviceGet")
            _check(self._cuda.cuDeviceGetUuid(found, device), "cuDeviceGetUuid")
            if bytes(found) == wanted:
                return device
        raise OSError(f"CUDA does not see {uuid}")

    def allocate(self, size: int) -> None:
        """Takes *size* bytes of device memory; OSError when there are not as many."""
        pointer = ctypes.c_uint64()
        _check(self._cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size)), "cuMemAlloc")


class Encoder:
    """NVENC on a context."""

    def __init__(self, context: Context) -> None:
        library = ctypes.CDLL("libnvidia-encode.so.1")
        self._context, self._functions = context, FunctionList(version=_version(2))
        _check(library.NvEncodeAPICreateInstance(ctypes.byref(self._functions)), "NvEncodeAPICreateInstance")
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(SessionParameters), ctypes.POINTER(ctypes.c_void_p))
        self._open = kind(self._functions.open_session)

    def open_session(self) -> int:
        """Opens one more session, for as long as the process lives; NVENC's status, 0 for success."""
        parameters = SessionParameters(
            version=_version(1), device_type=_DEVICE_TYPE_CUDA, device=self._context.handle, api_version=_API
        )
        return int(self._open(ctypes.byref(parameters), ctypes.byref(ctypes.c_void_p())))


def _check(status: int, what: str) -> None:
    if status:
        raise OSError(f"{what} failed with status {status}")
