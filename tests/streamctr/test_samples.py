"""Rows of the emission log: taken, gathered and joined as their padded columns would be."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamctr.ports import Arrays
from streamctr.samples import ABSENT, FINAL, LATE, NEVER_MS, OBSERVED, History, SampleBatch


def batch(lengths: list[int], first: int = 0, steps: int = 3) -> SampleBatch:
    """Rows numbered from `first` on, each with so many behaviours of two ids that tell which they are."""
    n = len(lengths)
    ordinal, length = first + np.arange(n), np.array(lengths, np.int32)
    ids_NTC = 1 + np.arange(first * steps * 2, (first + n) * steps * 2, dtype=np.uint64).reshape(n, steps, 2)
    ids_NTC[np.arange(steps) >= length[:, None]] = 0
    return SampleBatch(
        ordinal=ordinal,
        emit_ms=ordinal + 7,
        root=ordinal.astype(np.uint64),
        says=np.tile(np.array([0, OBSERVED, 0], np.uint8), (n, 1)),
        label=np.tile(np.array([0, 1, 0], np.uint8), (n, 1)),
        at_ms=np.stack([ordinal, ordinal + 1, np.full(n, NEVER_MS)], axis=1),
        ids_NF=np.arange(n * 2, dtype=np.uint64).reshape(n, 2) + np.uint64(first),
        numbers_NM=np.arange(n, dtype=np.float32).reshape(n, 1) - first,
        value_NV=np.zeros((n, 0)),
        weight=np.ones(n, np.float32),
        histories=(History.of_padded(ids_NTC, length), History.of_padded(ids_NTC[:, :1, :1], np.minimum(length, 1))),
    )


def same(rows: SampleBatch, expected: Arrays) -> None:
    arrays = rows.to_arrays()
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], strict=True)


LENGTHS = st.lists(st.integers(0, 3), max_size=6)


@given(LENGTHS, st.data())
def test_taken_rows_are_those_of_the_padded_columns(lengths: list[int], data: st.DataObject) -> None:
    rows = batch(lengths)
    n = len(lengths)
    places = st.lists(st.integers(-n, n - 1), max_size=8) if n else st.just([])
    index: Any = data.draw(
        st.one_of(
            st.slices(n),
            places.map(lambda p: np.array(p, np.int64)),
            st.just(np.arange(n) % 2 == 0),
            st.just(slice(9, 2)),
        )
    )
    same(rows.take(index), {name: array[index] for name, array in rows.to_arrays().items()})


@given(st.lists(st.tuples(LENGTHS, st.randoms(use_true_random=False)), min_size=1, max_size=4))
def test_rows_gathered_from_several_batches_stand_one_behind_the_other(drawn: list[Any]) -> None:
    batches = [batch(lengths, 10 * number) for number, (lengths, _) in enumerate(drawn)]
    chosen = [
        np.array(random.choices(range(len(rows)), k=3) if len(rows) else [], np.int64)
        for rows, (_, random) in zip(batches, drawn, strict=True)
    ]
    padded = [rows.to_arrays() for rows in batches]
    expected = {
        name: np.concatenate([arrays[name][places] for arrays, places in zip(padded, chosen, strict=True)])
        for name in padded[0]
    }
    gathered = SampleBatch.gather(list(zip(batches, chosen, strict=True)))
    same(gathered, expected)
    same(SampleBatch.concat([rows.take(at) for rows, at in zip(batches, chosen, strict=True)]), expected)
    assert len(gathered.histories[0].ids_PC) == gathered.histories[0].length.sum()


def test_a_taken_part_holds_nothing_of_the_rows_around_it() -> None:
    history = batch([2, 0, 3, 1]).histories[0].take(slice(1, 3))
    assert history.ids_PC.tolist() == [[13, 14], [15, 16], [17, 18]]
    assert history.begin.tolist() == [0, 0, 3]


def test_a_row_says_the_bits_of_all_its_stages_and_has_arrived_where_there_is_none() -> None:
    rows = batch([0, 0])
    rows.says[:] = [[0, OBSERVED | FINAL, ABSENT], [0, 0, 0]]
    assert rows.said.tolist() == [OBSERVED | FINAL | ABSENT, 0]
    assert rows.arrived.tolist() == [False, True]
    rows.says[1, 2] = LATE
    assert rows.arrived.tolist() == [False, False]


def test_rows_without_what_describes_their_roots_keep_all_that_is_said() -> None:
    rows = batch([1, 2])
    bare = rows.undescribed()
    assert bare.ids_NF.shape == bare.numbers_NM.shape == (2, 0)
    assert bare.histories == ()
    assert bare.says is rows.says
