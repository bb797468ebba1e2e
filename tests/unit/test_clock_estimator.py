"""What the property tests do not say about clocks and columns."""

from __future__ import annotations

from array import array

import pytest

from protos import column
from protos.clock import OffsetEstimator
from protos.error import SpecError


def test_nothing_is_known_before_the_first_exchange() -> None:
    assert OffsetEstimator().at(5) is None


@pytest.mark.parametrize(
    "stamps",
    [(10, 100, 99, 20), (20, 100, 101, 10), (0, 0, 5_000_000, 1_000)],
    ids=["controller backwards", "agent backwards", "held longer than it was away"],
)
def test_stamps_that_cannot_be_of_one_exchange_are_not_kept(stamps: tuple[int, int, int, int]) -> None:
    estimator = OffsetEstimator()
    assert not estimator.add(*stamps)
    assert len(estimator) == 0


def test_a_fresh_wide_exchange_loses_against_an_older_narrow_one_until_drift_outweighs_it() -> None:
    estimator = OffsetEstimator(drift_ppm=100)
    estimator.add(0, 1_000_000, 1_000_000, 2_000_000)
    estimator.add(10**9, 10**9 + 5_000_000, 10**9 + 5_000_000, 10**9 + 10_000_000)
    near, far = estimator.at(10**9), estimator.at(200 * 10**9)
    assert near is not None
    assert near.rtt_ns == 2_000_000
    assert far is not None
    assert far.error_ns > 19_000_000


def test_columns_come_back_as_they_went() -> None:
    assert column.unpack_int64(column.pack_int64([-(2**63), 0, 2**63 - 1]), 3).tolist() == [-(2**63), 0, 2**63 - 1]
    assert column.unpack_float64(column.pack_float64([1.5, float("inf")])).tolist() == [1.5, float("inf")]
    assert column.unpack_uint8(column.pack_uint8(array("B", [0, 255]))).tolist() == [0, 255]
    assert column.pack_int64([1]) == b"\x01" + bytes(7)


def test_a_big_endian_machine_writes_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    little = column.pack_int64([1, 2])
    monkeypatch.setattr(column, "_SWAP", True)
    assert column.pack_int64(array("q", [1, 2])) == array("q", [1 << 56, 2 << 56]).tobytes() != little
    assert column.unpack_int64(column.pack_int64([1, 2])).tolist() == [1, 2]


@pytest.mark.parametrize(("packed", "count"), [(b"1234567", None), (bytes(8), 2)])
def test_a_torn_column_is_refused(packed: bytes, count: int | None) -> None:
    with pytest.raises(SpecError, match="send the batch again"):
        column.unpack_int64(packed, count)


def test_a_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OverflowError):
        column.pack_uint8([256])
