"""Ids are the same on every machine and in every version: these numbers may never change."""

import numpy as np
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from streamctr.decode.tokens import bytes_of
from streamctr.hashing import MISSING_ID, SPAN_LIMIT, combine, hash_span, hash_text, hash_texts, mix


def test_hashes_are_xxh3_of_the_utf8_text_for_ever():
    assert hash_text("") == 3244421341483603138
    assert hash_text("123") == 4632645163541105818
    assert hash_text("视频") == 1832973413741503052


def test_a_block_of_texts_hashes_as_each_text_does_and_never_to_missing():
    texts = ["", "a", "a" * 300, "ü", "123"]
    assert hash_texts(texts).tolist() == [hash_text(text) for text in texts]
    assert MISSING_ID not in hash_texts(texts).tolist()


def test_mix_is_splitmix64():
    # The first outputs of splitmix64 seeded with 0 (Steele, Lea, Flood 2014; also in its reference code's tests).
    golden = 0x9E3779B97F4A7C15
    seeds = np.array([0, golden, 2 * golden % 2**64], np.uint64)
    assert [hex(v) for v in mix(seeds).tolist()] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


def test_the_order_of_columns_matters():
    a, b = np.array([1], np.uint64), np.array([2], np.uint64)
    assert combine([a, b])[0] != combine([b, a])[0]


def span_hash(before: bytes, text: bytes) -> int:
    found = bytes_of(before + text)
    return int(hash_span(found.data, found.words, len(before), len(text)))


def test_a_span_of_every_length_hashes_as_its_text_does():
    draw = np.random.default_rng(7)
    for size in range(SPAN_LIMIT + 1):
        for text in (bytes(size), b"\xff" * size, draw.bytes(size), draw.bytes(size)):
            assert span_hash(b"abc", text) == (xxhash.xxh3_64_intdigest(text) or 1)


@given(st.binary(max_size=17), st.binary(max_size=SPAN_LIMIT))
def test_a_span_hashes_as_its_text_does_wherever_it_stands(before, text):
    assert span_hash(before, text) == (xxhash.xxh3_64_intdigest(text) or 1)


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_table_combines_as_its_columns_do_one_by_one(rows):
    table = np.array(rows, np.uint64)
    total = np.zeros(len(rows), np.uint64)
    for column in table.T:
        total = mix(total ^ column)
    assert combine([table]).tolist() == combine(list(table.T)).tolist() == total.tolist()
    assert combine([table[:, :1], table[:, 1:], table[:, :0]]).tolist() == total.tolist()
