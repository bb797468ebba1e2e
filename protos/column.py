"""Packing of telemetry columns: little-endian arrays of one type, as `ProbeBatch` and `GaugeBatch` carry them.

Invariant: unpacking what was packed gives the column back, on machines of either byte order. Uses the standard
library only, because the agent imports it.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Final, TypeVar

from protos.error import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

INT64: Final = "q"
FLOAT64: Final = "d"
UINT8: Final = "B"
_WIDTHS: Final[dict[str, int]] = {INT64: 8, FLOAT64: 8, UINT8: 1}
_SWAP: Final = sys.byteorder == "big"

ColumnT = TypeVar("ColumnT", "array[int]", "array[float]")


def pack_int64(values: Iterable[int]) -> bytes:
    """Signed 64-bit integers; raises OverflowError for what does not fit."""
    return _packed(values if isinstance(values, array) and values.typecode == INT64 else array(INT64, values))


def pack_float64(values: Iterable[float]) -> bytes:
    """IEEE 754 doubles; NaN and infinities survive."""
    return _packed(values if isinstance(values, array) and values.typecode == FLOAT64 else array(FLOAT64, values))


def pack_uint8(values: Iterable[int]) -> bytes:
    """Unsigned bytes; raises OverflowError for what does not fit."""
    return _packed(values if isinstance(values, array) and values.typecode == UINT8 else array(UINT8, values))


def unpack_int64(packed: bytes, count: int | None = None) -> array[int]:
    """What `pack_int64` packed; raises SpecError when it is not *count* values long."""
    column: array[int] = array(INT64)
    return _unpacked(column, packed, count)


def unpack_float64(packed: bytes, count: int | None = None) -> array[float]:
    """What `pack_float64` packed; raises SpecError when it is not *count* values long."""
    column: array[float] = array(FLOAT64)
    return _unpacked(column, packed, count)


def unpack_uint8(packed: bytes, count: int | None = None) -> array[int]:
    """What `pack_uint8` packed; raises SpecError when it is not *count* values long."""
    column: array[int] = array(UINT8)
    return _unpacked(column, packed, count)


def _packed(column: array[int] | array[float]) -> bytes:
    if not _SWAP:
        return column.tobytes()
    swapped = column[:]
    swapped.byteswap()
    return swapped.tobytes()


def _unpacked(column: ColumnT, packed: bytes, count: int | None) -> ColumnT:
    width = _WIDTHS[column.typecode]
    if len(packed) % width or (count is not None and len(packed) != count * width):
        expected = "whole values" if count is None else f"{count} values"
        raise SpecError(f"column: {len(packed)} bytes are not {expected} of {width} bytes; send the batch again")
    column.frombytes(packed)
    if _SWAP:
        column.byteswap()
    return column
