"""Messages as lines: the quick way and the careful one give the same, whatever the messages hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka.records import line_of, lines_of

PIECES = [b"{", b"}", b" ", b"\t", b"\r", b"\n", b"\x0b", b"\x0c", b'"a"', b"\x85", b"\xc2\xa0", b"0"]
VALUES = st.lists(st.none() | st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join), max_size=6)


@given(VALUES, st.integers(1, 8))
def test_all_together_are_what_each_is_alone(values, limit_bytes):
    alone = [line_of(value, limit_bytes) for value in values]
    payload, reasons = lines_of(values, limit_bytes)
    assert payload == b"\n".join(text for text, _ in alone)
    assert reasons == {line: reason for line, (_, reason) in enumerate(alone) if reason}


@given(VALUES.filter(bool), st.integers(1, 8))
def test_each_message_is_one_line(values, limit_bytes):
    assert lines_of(values, limit_bytes).payload.count(b"\n") == len(values) - 1


@pytest.mark.parametrize(
    ("odd", "line", "reason"),
    [
        (None, b"null", "has no value (a tombstone)"),
        (b"", b'""', "is empty"),
        (b"\r\n\t ", b'""', "is empty"),
        (b"12345", b"1234...", "longer than 4 bytes"),
        (b"\x0b", b"\x0b", ""),
        (b"a\nb", b"a\rb", ""),
    ],
)
def test_what_is_odd_is_found_among_what_is_not(odd, line, reason):
    assert lines_of([b"{}", odd, b"{}"], 4) == (b"{}\n" + line + b"\n{}", {1: reason} if reason else {})


def test_no_messages_are_no_lines():
    assert lines_of([], 4) == (b"", {})
