"""Decimal numbers become the double next to them, or are left to others."""

import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamctr.decode.decimals import decimal
from streamctr.decode.jsonlines import JsonLines
from streamctr.decode.values import numbers


@given(st.integers(0, 10**19 - 1), st.integers(-70, 50))
@settings(max_examples=3000)
@example(9007199254740993, 0)  # just between two doubles
@example(9007199254740993, -1)
@example(2**64 - 1, 40)
@example(1, -60)
def test_a_decimal_number_is_the_double_next_to_it(mantissa, exponent):
    found = decimal(np.uint64(mantissa), exponent)
    assert math.isnan(found) or found == float(f"{mantissa}e{exponent}")


@given(st.integers(2**52, 2**53 - 1), st.integers(-4, 23))
def test_a_number_just_between_two_doubles_and_those_beside_it_are_never_rounded_wrongly(bits, exponent):
    between = 2 * bits + 1
    mantissa = between * 5**-exponent if exponent <= 0 else between // 5**exponent | 1
    for near in (mantissa - 1, mantissa, mantissa + 1):
        found = decimal(np.uint64(near % 2**64), exponent)
        assert math.isnan(found) or found == float(f"{near % 2**64}e{exponent}")


@given(st.floats(allow_nan=False, allow_infinity=False), st.booleans())
@settings(max_examples=1000)
def test_a_double_comes_back_as_it_was_written(value, exponent):
    line = b'{"x":%s}' % (f"{value:.16e}" if exponent else repr(value)).encode()
    column = numbers(JsonLines(["x"]).parse(line).cells["x"], 1)
    assert column.values.tolist() == [value + 0.0]
    assert not column.faults


def test_seventeen_digits_are_read_without_help():
    draw = np.random.default_rng(5)
    for value in draw.random(2000).tolist():
        digits = repr(value).split(".")[1]
        if "e" not in digits:
            assert decimal(np.uint64(int(digits)), -len(digits)) == value
