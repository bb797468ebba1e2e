"""Formatting: what is printed, and that printed bounds still hold the truth."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.report import format as fmt
from controller.report.document import Interval

NUMBERS = re.compile(r"\[(-?[\d.]+), (-?[\d.]+)\]$")


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(1.416, 1.401, 1.43), "1.42 s [1.40, 1.43]"),
        (Interval(0.0123, 0.0121, 0.0125), "0.0123 s [0.0121, 0.0125]"),
        (Interval(123.4, 118.2, 131.9), "123 s [118, 132]"),
        (Interval(1.5, 1.5, 1.5), "1.50 s [1.50, 1.50]"),
        (Interval(0.0, 0.0, 0.02), "0.00 s [0.00, 0.02]"),
    ],
)
def test_an_interval_has_the_digits_that_its_bounds_earn(interval: Interval, expected: str):
    assert fmt.interval(interval) == expected


@given(st.floats(0, 1e5), st.floats(0, 1e3))
def test_printed_bounds_hold_the_exact_ones(lo: float, width: float):
    hi = lo + width
    width = hi - lo  # as far as floats can tell
    printed = NUMBERS.search(fmt.interval(Interval((lo + hi) / 2, lo, hi)))
    assert printed is not None
    low, high = map(float, printed.groups())
    slack = 1e-9 * max(1.0, hi)  # what a float near a printed digit may be off
    assert low <= lo + slack
    assert high >= hi - slack
    assert high - low <= width + 2 * 10.0 ** -fmt.decimals_for(width) + slack


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (fmt.seconds(0), "0.00 s"),
        (fmt.seconds(21.304), "21.3 s"),
        (fmt.seconds(math.inf), "—"),
        (fmt.objective(60.0), "60 s"),
        (fmt.objective(0.5), "0.5 s"),
        (fmt.latency(11.83), "11.8 ms"),
        (fmt.latency(0.04), "0.04 ms"),
        (fmt.latency(1000.4), "1000 ms"),
        (fmt.latency(30_000), "30.0 s"),
        (fmt.latency(math.nan), "—"),
        (fmt.rate(20.0), "50 Hz"),
        (fmt.rate(30.0), "33.33 Hz"),
        (fmt.rate(0.0), "—"),
        (fmt.count(20_12), "2,012"),
        (fmt.plural(1, "run"), "1 run"),
        (fmt.plural(0, "run"), "0 runs"),
        (fmt.number(74.30), "74.3"),
        (fmt.number(1_234_567.0), "1.235e+06"),
        (fmt.number(0.0), "0"),
        (fmt.number(12_345.6), "12,346"),
        (fmt.stamp(0), "—"),
        (fmt.stamp(1_767_261_600_000_000_000), "2026-01-01 10:00:00 UTC"),
        (fmt.clock(1_767_261_600_123_999_999), "10:00:00.123"),
        (fmt.length(1, 0), "—"),
        (fmt.length(1, 40_000_000_001), "40.0 s"),
        (fmt.length(1, 102_000_000_001), "1 min 42 s"),
        (fmt.length(1, 3_780_000_000_001), "1 h 03 min"),
        (fmt.sentence(" a\n b "), "a b."),
        (fmt.sentence("done!"), "done!"),
        (fmt.one_line("x" * 400)[-2:], "x…"),
    ],
)
def test_words(made: str, expected: str):
    assert made == expected


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.5, "1", "0.5"), (3 * 2**30, "B", "3 GiB"), (1.5 * 2**20, "B", "1.5 MiB"), (10.0, "B", "10 B"),
        (float("nan"), "B", "— B"), (7.0, "W", "7 W"),
    ],
)  # fmt: skip
def test_gauges_have_the_units_that_people_read(value, unit, shown):
    assert fmt.gauge(value, unit) == shown
