"""Batches as columns hold what kafka-python itself unpacks record by record."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import errors
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from connectors.kafka.batches import Batch, number_at
from streamctr.ports import Original

BASE = 1_000
CODECS = (0, 1, 3, 4)
TEXTS = st.one_of(st.none(), st.binary(max_size=300))
HEADERS = st.lists(st.tuples(st.text(max_size=5), TEXTS), max_size=3)
RECORDS = st.lists(
    st.tuples(st.integers(0, 2**40), TEXTS, TEXTS.filter(lambda value: value is None or len(value) < 200), HEADERS),
    min_size=1,
    max_size=30,
)


def batch_of(records, codec=0, stored=False):
    """The client's own batch of (time, key, value, headers), its first offset `BASE`."""
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 20)
    for place, (time_ms, key, value, headers) in enumerate(records):
        assert builder.append(place, time_ms, key, value, headers) is not None
    packed = bytearray(builder.build())
    packed[0:8] = BASE.to_bytes(8, "big")
    if stored:
        packed[22] |= 0x08  # the low byte of the attributes: the broker's time counts
    return lambda: DefaultRecordBatch(packed)


@given(RECORDS, st.sampled_from(CODECS), st.booleans(), st.integers(0, 32))
@settings(max_examples=150)
def test_a_batch_holds_what_the_client_unpacks_from_an_offset_on(records, codec, stored, skipped):
    fresh = batch_of(records, codec, stored)
    wanted = [
        (r.offset, Original(r.value, r.key, tuple(r.headers), r.timestamp))
        for r in fresh()
        if r.offset >= BASE + skipped
    ]
    batch = Batch(fresh(), BASE + skipped)
    assert batch.offsets.tolist() == [offset for offset, _ in wanted]
    assert [batch.original(place) for place in range(len(batch))] == [original for _, original in wanted]
    assert batch.values() == [original.value for _, original in wanted]
    assert batch.times_ms.tolist() == [original.time_ms for _, original in wanted]


@given(RECORDS, st.data())
@settings(max_examples=150)
def test_a_batch_that_was_cut_or_altered_is_refused_or_read_within_its_bounds(records, data):
    batch = batch_of(records)()
    batch._maybe_uncompress()
    place = data.draw(st.integers(batch._pos, len(batch._buffer) - 1))
    if data.draw(st.booleans()):
        batch._buffer = batch._buffer[:place]
    else:
        batch._buffer[place] = data.draw(st.integers(0, 255))
    try:
        found = Batch(batch, BASE)
    except errors.CorruptRecordError:
        return
    assert len(found) <= len(records)
    assert all(value is None or value in bytes(batch._buffer) for value in found.values())


@pytest.mark.parametrize("number", [0, 1, -1, 63, -64, 64, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63)])
def test_numbers_of_any_size_are_read(number):
    rest, data = ((number << 1) ^ (number >> 63)) & (2**64 - 1), bytearray()
    while rest >= 0x80:
        data.append(rest & 0x7F | 0x80)
        rest >>= 7
    data.append(rest)
    assert number_at(np.frombuffer(bytes(data), np.uint8), 0, len(data)) == (number, len(data))
    assert number_at(np.frombuffer(bytes(data), np.uint8), 0, len(data) - 1)[1] == -1
