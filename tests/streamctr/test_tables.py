import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from streamctr.errors import ConfigError
from streamctr.hashing import hash_text, mix
from streamctr.tables import FusedTable, Places, RowGradients, TablesConfig, kernels


def table(width: int = 2, init_std: float = 0.0, seed: int = 0, features: str = "a", **config: object) -> FusedTable:
    tables = TablesConfig(**{"rows": 64, "lr": 0.5, "decay": 1.0, **config})
    return FusedTable(tables, tuple(features), width, init_std, seed)


def ids(*values: int) -> np.ndarray:
    """One id feature, a sample each."""
    return np.array(values, np.uint64)[:, None]


def look(held: FusedTable, *values: int) -> np.ndarray:
    """The numbers of some ids of the first feature, (N, W)."""
    out_NW = np.full((len(values), held.width), 7.0, np.float32)
    held.look(ids(*values), held.columns([0]), out_NW)
    return out_NW


def drawn(held: FusedTable, rows: int) -> np.ndarray:
    """The numbers of so many rows that nobody learned, (rows, W)."""
    out_RW = np.empty((rows, held.width), np.float32)
    kernels._gather(-1 - np.arange(rows)[:, None], held._store.weights_LW, held._draw, out_RW)
    return out_RW


def pool(held: FusedTable, bags: list[list[int]], how: Any, start: int = 0) -> tuple[np.ndarray, Places]:
    """The items of each bag combined, W numbers from a column on, and where they are from."""
    begin_N = np.cumsum([0, *map(len, bags)])
    out_NX = np.full((len(bags), start + held.width + 1), 7.0, np.float32)
    items = np.array([item for bag in bags for item in bag], np.uint64)[:, None]
    return out_NX, held.pool((items, begin_N), held.columns([0]), how, out_NX, start)


def step(held: FusedTable, places: Places, grads: Any, start: int = 0) -> None:
    held.admit([places])
    held.update([RowGradients(places, np.array(grads, np.float32), start)])


def learn(held: FusedTable, values: list[int], grads: list[list[float]]) -> None:
    out_NW = np.empty((len(values), held.width), np.float32)
    step(held, held.look(ids(*values), held.columns([0]), out_NW), grads)


def test_an_id_goes_to_the_row_that_its_hash_salted_by_the_table_names() -> None:
    held = table(features="ab", sizes={"b": 7}, shared={})
    rows = held.rows(np.array([[5, 5]], np.uint64), held.columns([0, 1])).ravel().tolist()
    mixed = [int(mix(np.array([5 ^ hash_text(name)], np.uint64))[0]) for name in ("a", "b")]
    assert rows == [mixed[0] % 64, 64 + mixed[1] % 7]


def test_features_that_share_a_table_share_their_rows() -> None:
    held = table(features="abc", shared={"c": "a"})
    a, b, c = held.rows(np.array([[5, 5, 5]], np.uint64), held.columns([0, 1, 2])).ravel().tolist()
    assert a == c
    assert a != b


def test_equal_rows_sum_their_gradients_and_share_one_rate() -> None:
    held = table()
    learn(held, [5, 5], [[1.0, 4.0], [2.0, 0.0]])
    # g = (3, 4): mean square 12.5, so the step is .5 g / sqrt(12.5).
    assert look(held, 5).ravel() == pytest.approx([-1.5 / 12.5**0.5, -2.0 / 12.5**0.5], rel=1e-6)
    assert held.state()["accumulator"].tolist() == [12.5]


def test_the_accumulator_forgets_at_each_touch_of_its_row() -> None:
    held = table(decay=0.5, initial_accumulator=2.0)
    learn(held, [5], [[1.0, 1.0]])
    assert held.state()["accumulator"].tolist() == [2.0]
    learn(held, [5], [[2.0, 2.0]])
    learn(held, [6], [[1.0, 1.0]])
    assert sorted(held.state()["accumulator"].tolist()) == [2.0, 5.0]


def test_columns_stand_side_by_side_and_nothing_else_is_written() -> None:
    held = table(init_std=0.1, features="ab")
    out_NX = np.full((2, 7), 7.0, np.float32)
    held.look(np.array([[5, 6]], np.uint64), held.columns([1, 0]), out_NX)
    for place, column in enumerate((1, 0)):
        alone_NW = np.empty((1, 2), np.float32)
        held.look(ids(5 + place), held.columns([column]), alone_NW)
        assert out_NX[0, 2 * place : 2 * place + 2].tolist() == alone_NW[0].tolist()
    assert (out_NX[0, 4:] == 7.0).all()
    assert (out_NX[1] == 7.0).all()


BAGS = [[5, 6, 6], [], [9], [6, 5]]


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_items_are_combined_with_new_and_learned_rows_alike(how: Any, start: int) -> None:
    held = table(init_std=0.1)
    learn(held, [6, 7], [[1.0, 2.0], [3.0, 4.0]])
    found_NX, _ = pool(held, BAGS, how, start)
    combine = {"sum": np.sum, "mean": np.mean, "max": np.max}[how]
    for found_X, bag in zip(found_NX, BAGS, strict=True):
        expected_W = combine(look(held, *bag).astype(np.float64), axis=0) if bag else np.zeros(2)
        assert found_X[start : start + 2] == pytest.approx(expected_W, rel=1e-6, abs=1e-9)
        assert (np.delete(found_X, [start, start + 1]) == 7.0).all()
    assert len(held) == 2


def test_the_largest_of_bad_ones_is_the_least_bad() -> None:
    held = table()
    learn(held, [5, 6], [[1.0, 1.0], [1.0, 1.0]])
    learn(held, [6], [[1.0, 1.0]])
    largest = look(held, 5)[0].tolist()
    assert max(largest) < 0
    assert pool(held, [[6, 5]], "max")[0][0, :2].tolist() == largest


@pytest.mark.parametrize(
    ("how", "squares"),
    [
        # Row 5 gets (2, 4) of the first bag and (1, 0) of the last; row 6, there twice, its share as often.
        ("sum", {5: (3.0, 4.0), 6: (5.0, 8.0), 9: (6.0, 0.0)}),
        ("mean", {5: (2 / 3 + 0.5, 4 / 3), 6: (4 / 3 + 0.5, 8 / 3), 9: (6.0, 0.0)}),
        # All are equal, at 0: two places of row 6 share with the one of row 5.
        ("max", {5: (2 / 3 + 0.5, 4 / 3), 6: (4 / 3 + 0.5, 8 / 3), 9: (6.0, 0.0)}),
    ],
)
@pytest.mark.parametrize("start", [0, 2])
def test_the_gradient_of_what_was_combined_goes_to_its_items(how: Any, squares: Any, start: int) -> None:
    held = table()
    places = pool(held, BAGS, how)[1]
    grads_NX = np.full((4, 6), 99.0)
    grads_NX[:, start : start + 2] = [[2.0, 4.0], [5.0, 5.0], [6.0, 0.0], [1.0, 0.0]]
    step(held, places, grads_NX, start)
    found = dict(zip(held.state()["rows"].tolist(), held.state()["accumulator"].tolist(), strict=True))
    for item, (one, other) in squares.items():
        (row,) = held.rows(ids(item), held.columns([0]))[0]
        assert found.pop(row) == pytest.approx((one**2 + other**2) / 2, rel=1e-6)
    assert not found


def test_the_largest_alone_learns_number_by_number() -> None:
    held = table()
    learn(held, [5, 6], [[1.0, -1.0], [-1.0, 1.0]])  # 5 is (-.5, .5) and 6 the other way round
    before = look(held, 5, 6)
    step(held, pool(held, [[5, 6, 5]], "max")[1], [[3.0, 4.0]])
    moved = look(held, 5, 6) != before
    assert moved.tolist() == [[False, True], [True, False]]
    # Accumulators of 1: row 5 got its 4 in two halves, row 6 its 3.
    assert held.state()["accumulator"].tolist() == [1.0 + 4.0**2 / 2, 1.0 + 3.0**2 / 2]


def test_admitted_rows_are_as_a_look_gave_them() -> None:
    held = table(init_std=0.1)
    before = look(held, 5, 6, 5)
    places = held.look(ids(5, 6, 5), held.columns([0]), np.empty((3, 2), np.float32))
    assert (places.slots < 0).all()
    held.admit([places])
    assert places.slots.ravel().tolist() == [0, 1, 0]
    assert len(held) == 2
    assert look(held, 5, 6, 5).tobytes() == before.tobytes()
    assert not held.state()["accumulator"].any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -(2.0**40)])
def test_a_step_with_a_sum_that_cannot_be_squared_changes_nothing_and_leaves_nothing(bad: float) -> None:
    one, other = (table(init_std=0.1, features="ab") for _ in range(2))
    for held in (one, other):
        held.share_out(2)
        learn(held, [5], [[1.0, 2.0]])
    before = look(one, 5, 6, 7)
    places = one.look(ids(5, 6, 7), one.columns([1]), np.empty((3, 2), np.float32))
    one.admit([places])
    assert not one.update([RowGradients(places, np.array([[1.0, 1.0], [bad, 1.0], [1.0, 1.0]], np.float32))])
    assert len(one) == 1
    assert look(one, 5, 6, 7).tobytes() == before.tobytes()
    for held in (one, other):
        learn(held, [7, 5], [[3.0, 4.0], [5.0, 6.0]])
    for name, array in one.state().items():
        assert array.tobytes() == other.state()[name].tobytes()


def test_gradients_of_several_looks_are_one_step() -> None:
    one, other = table(), table()
    learn(one, [5, 6, 5], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    looked = [other.look(ids(*some), other.columns([0]), np.empty((2, 2), np.float32)) for some in ((5, 6), (5,))]
    other.admit(looked)
    grads = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([[9.0, 9.0, 5.0, 6.0]], np.float32)
    other.update([RowGradients(looked[0], grads[0]), RowGradients(looked[1], grads[1], 2)])
    for name, array in one.state().items():
        assert array.tobytes() == other.state()[name].tobytes()


def test_no_items_at_all_teach_nothing() -> None:
    held = table(init_std=0.1)
    found_NX, places = pool(held, [[], []], "mean")
    assert not found_NX[:, :2].any()
    step(held, places, np.ones((2, 2)))
    assert len(held) == 0


def test_what_comes_out_is_the_same_in_any_number_of_parts() -> None:
    rng, found = np.random.default_rng(0), []
    batches = []
    for rows in (1, 2, 50, 7):
        length = rng.integers(0, 6, rows)
        items = rng.integers(0, 40, (length.sum(), 2)).astype(np.uint64)
        batch = rng.integers(0, 40, (rows, 2)).astype(np.uint64), items, np.cumsum([0, *length])
        batches.append((*batch, rng.normal(size=(rows, 24)).astype(np.float32)))
    for parts in (1, 2, 3, 64):
        held = table(width=3, init_std=0.1, features="ab")
        told = b""
        for n, (ids_NC, items_PC, begin_N, grads_NX) in enumerate(batches):
            held.share_out(3 if n == 2 and parts == 1 else parts)  # it may change
            out_NX, both = np.empty_like(grads_NX), held.columns([0, 1])
            places = [held.look(ids_NC, both, out_NX)]
            places += [
                held.pool((items_PC, begin_N), both, how, out_NX, start)
                for how, start in (("sum", 6), ("mean", 12), ("max", 18))
            ]
            held.admit(places)
            held.update([RowGradients(each, grads_NX, 6 * place) for place, each in enumerate(places)])
            told += out_NX.tobytes()
        found.append(
            (
                told,
                {
                    row: (weights.tobytes(), accumulator)
                    for row, weights, accumulator in zip(*map(list, held.state().values()), strict=True)
                },
            )
        )
    assert len(found[0][1]) > 30
    assert all(each == found[0] for each in found)


def test_looking_at_rows_changes_nothing() -> None:
    held = table(init_std=0.1)
    assert look(held, 5, 6).any()
    assert (len(held), held.bytes(), held.state()["rows"].tolist()) == (0, 0, [])


def test_new_rows_do_not_depend_on_the_order_of_first_touch_in_which_the_state_gives_them() -> None:
    grads = [[0.5, -1.0], [2.0, 0.25]]
    one, other = table(init_std=0.1), table(init_std=0.1)
    learn(one, [5, 6], grads)
    look(other, 9, 6)
    learn(other, [6], grads[1:])
    learn(other, [5], grads[:1])
    assert one.state()["rows"].tolist() == one.rows(ids(5, 6), one.columns([0])).ravel().tolist()
    for name, array in one.state().items():
        assert array.tolist() == other.state()[name][::-1].tolist()


def test_new_rows_differ_by_seed_table_and_place_and_have_the_deviation_asked_for() -> None:
    found = drawn(table(8, 0.05, rows=2048, features="ab"), 4096).reshape(2, 2048, 8)
    other = drawn(table(8, 0.05, seed=1, rows=2048, features="ab"), 4096).reshape(2, 2048, 8)
    assert len(np.unique(found)) > 32_000
    assert (other == found).mean() < 0.001
    assert found.std() == pytest.approx(0.05, rel=0.02)
    assert abs(found.mean()) < 0.001
    assert np.abs(found).max() <= 0.05 * 3**0.5


def test_a_restored_table_goes_on_as_the_first_would() -> None:
    first, second = table(init_std=0.1), table(init_std=0.1)
    learn(first, [5, 6], [[1.0, 2.0], [3.0, 4.0]])
    learn(second, [8], [[1.0, 1.0]])
    second.restore(first.state())
    for held in (first, second):
        learn(held, [6, 7], [[1.0, -2.0], [0.5, 0.5]])
    for name, array in first.state().items():
        assert array.tobytes() == second.state()[name].tobytes()
    assert len(first) == len(second) == 3


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_rows_may_be_restored_in_any_order(order: list[int]) -> None:
    first, second = table(init_std=0.1), table(init_std=0.1)
    learn(first, [5, 6, 9], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    second.restore({name: array[order] for name, array in first.state().items()})
    for held in (first, second):
        learn(held, [6, 7], [[1.0, -2.0], [0.5, 0.5]])
    assert look(second, *range(500)).tobytes() == look(first, *range(500)).tobytes()


def test_what_names_no_feature_or_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'tables.shared: "x" is not an id feature'):
        table(shared={"x": "a"})
    with pytest.raises(ConfigError, match=r'tables.sizes: "x" is not a table'):
        table(sizes={"x": 4})


def test_rows_may_be_written_as_a_power_of_two() -> None:
    assert TablesConfig(rows="2^18", sizes={"a": "1000"}).model_dump(include={"rows", "sizes"}) == {
        "rows": 262_144,
        "sizes": {"a": 1000},
    }


SCRIPT = """
import json, numpy as np
from streamctr.tables import FusedTable, RowGradients, TablesConfig
held = FusedTable(TablesConfig(rows=50), ("a", "b"), 3, 0.1, 4)
held.share_out(2)
both, begin = held.columns([0, 1]), np.array([0, 3, 3, 4, 6])
out, grads = np.zeros((2, 4, 24), np.float32), np.sin(np.arange(96, dtype=np.float32)).reshape(4, 24)
for turn in range(2):
    ids, items = (np.arange(n, dtype=np.uint64).reshape(-1, 2) % 7 + np.uint64(turn) for n in (8, 12))
    places = [held.look(ids, both, out[turn])]
    for place, how in enumerate(("sum", "mean", "max")):
        places.append(held.pool((items, begin), both, how, out[turn], 6 * place + 6))
    held.admit(places)
    held.update([RowGradients(each, grads, 6 * place) for place, each in enumerate(places)])
slots = [each.slots.ravel().tolist() for each in places]
numbers = (out, held.state()["weights"], held.state()["accumulator"])
print(json.dumps([[slots, held.state()["rows"].tolist()], *(array.ravel().tolist() for array in numbers)]))
"""


def test_kernels_do_the_same_as_plain_python() -> None:
    """Integers to the bit, floats to rounding."""
    runs = []
    for plain in ("0", "1"):
        command = [sys.executable, "-W", "ignore::RuntimeWarning", "-c", SCRIPT]
        environment = {**os.environ, "NUMBA_DISABLE_JIT": plain}
        runs.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    compiled, plain_python = (json.loads(run) for run in runs)
    assert compiled[0] == plain_python[0]
    for one, other in zip(compiled[1:], plain_python[1:], strict=True):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-9)
